"""The grammars that write all text of the demo models: seeded, no outside data."""

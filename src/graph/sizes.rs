//! Sizes that every step gives anew: the names that models use, and values by name.

use super::node::Graph;
use crate::error::{Error, Result};
use crate::tensor::{MAX_SYMS, Sizes, Sym};

/// The sizes of models' graphs. A graph of one's own may have others, by any name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Sequences at once.
    Batch,
    /// Tokens of each sequence in this step; of the decoder's, behind an encoder.
    Tokens,
    /// Tokens that came before, in a decoding step.
    Past,
    /// Tokens that the key and value caches are laid out for.
    Context,
    /// Tokens of the encoder's input, in front of a decoder.
    Source,
    /// Tokens of each sequence that a language head is put on.
    Picks,
}

impl Size {
    /// Its name in a graph.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Batch => "batch",
            Self::Tokens => "tokens",
            Self::Past => "past",
            Self::Context => "context",
            Self::Source => "source",
            Self::Picks => "picks",
        }
    }
}

impl AsRef<str> for Size {
    fn as_ref(&self) -> &str {
        self.name()
    }
}

impl Graph {
    /// The values of all of the graph's sizes, by name: [`Size`]s, or strings for a graph of
    /// one's own.
    ///
    /// Errors when one is missing, and when the graph has none of a name.
    pub fn sizes<N: AsRef<str>>(&self, given: &[(N, usize)]) -> Result<Sizes> {
        let mut sizes = Sizes::default();
        for (index, name) in self.symbols().iter().enumerate() {
            let value = given.iter().find(|(n, _)| n.as_ref() == name).map(|(_, v)| *v);
            let missing = || Error::Argument(format!("size `{name}` is missing"));
            // A graph has at most MAX_SYMS symbols.
            sizes.set(Sym(index as u8), value.ok_or_else(missing)?);
        }
        match given.iter().find(|(n, _)| self.find_symbol(n.as_ref()).is_none()) {
            None => Ok(sizes),
            Some((name, _)) => {
                let (name, known) = (name.as_ref(), self.symbols().join(", "));
                Err(Error::Argument(format!("`{name}` is not a size; the sizes are {known}")))
            }
        }
    }
}

/// The symbols that any graph can have.
fn symbols() -> impl Iterator<Item = Sym> {
    (0..MAX_SYMS as u8).map(Sym)
}

impl Sizes {
    /// Whether none of `other`'s sizes is larger.
    pub fn covers(&self, other: &Self) -> bool {
        symbols().all(|s| other.get(s) <= self.get(s))
    }

    /// The larger of both, size by size.
    #[must_use]
    pub fn joined(self, other: &Self) -> Self {
        symbols().fold(self, |all, s| all.with(s, all.get(s).max(other.get(s))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph() -> Graph {
        let mut graph = Graph::new();
        for size in [Size::Tokens, Size::Batch] {
            graph.symbol(size).unwrap();
        }
        graph.symbol("rows").unwrap();
        graph
    }

    #[test]
    fn sizes_are_found_by_name_in_any_order() {
        let graph = graph();
        let sizes = graph.sizes(&[("rows", 5), ("batch", 2), ("tokens", 7)]).unwrap();
        let value = |name: &str| sizes.get(graph.find_symbol(name).unwrap());
        assert_eq!(["batch", "tokens", "rows"].map(value), [2, 7, 5]);
    }

    #[test]
    fn a_missing_or_unknown_size_is_an_error() {
        let error = |given: &[(&str, usize)]| graph().sizes(given).unwrap_err().to_string();
        assert_eq!(error(&[("batch", 2), ("rows", 1)]), "size `tokens` is missing");
        let all = [("batch", 2), ("rows", 1), ("tokens", 3), ("pasts", 1)];
        assert_eq!(error(&all), "`pasts` is not a size; the sizes are tokens, batch, rows");
    }

    #[test]
    fn capacities_join_size_by_size() {
        let of = |a, b| Sizes::default().with(Sym(0), a).with(Sym(1), b);
        assert!(of(3, 4).covers(&of(3, 1)) && !of(3, 4).covers(&of(1, 5)));
        assert_eq!(of(3, 1).joined(&of(2, 5)), of(3, 5));
    }
}

//! Layers that a checkpoint has and its configuration does not.

use std::collections::HashSet;

/// A notice when tensors that are not `used` differ from used ones by the layer's number alone: a
/// configuration with too few layers gives a model that runs and answers nonsense.
pub fn extra_layers<'a>(
    used: impl Iterator<Item = &'a str> + Clone,
    stored: impl Iterator<Item = &'a str>,
) -> Option<String> {
    let names: HashSet<&str> = used.clone().collect();
    let layers: HashSet<_> = used.flat_map(without_number).collect();
    let extra = stored.filter(|name| !names.contains(name));
    let mut extra = extra.filter(|name| without_number(name).any(|n| layers.contains(&n)));
    let first = extra.next()?;
    let others = extra.count();
    Some(format!(
        "the config has fewer layers than the checkpoint: tensor `{first}` and {others} more are \
         not used"
    ))
}

/// What stands before and behind each number of a name such as `encoder.layer.3.output.bias`.
fn without_number(name: &str) -> impl Iterator<Item = (&str, &str)> {
    let number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let mut next = 0;
    name.split('.').filter_map(move |part| {
        let at = next;
        next += part.len() + 1;
        number(part).then(|| (&name[..at], &name[at + part.len()..]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_layers_beyond_the_used_ones_count() {
        let used = ["wte", "h.0.fc", "h.1.fc", "block.0.layer.1.o"];
        let extra = |stored: &[&str]| {
            let stored: Vec<_> = used.iter().chain(stored).copied().collect();
            extra_layers(used.into_iter(), stored.into_iter())
        };
        assert_eq!(extra(&[]), None);
        assert_eq!(extra(&["pooler", "h.0.masked_bias", "block.1.layer.0.o"]), None);
        let found = extra(&["h.2.attn", "h.2.fc", "h.3.fc"]).unwrap();
        assert!(found.contains("`h.2.fc` and 1 more"), "{found}");
        let found = extra(&["block.0.layer.2.o"]).unwrap();
        assert!(found.contains("`block.0.layer.2.o` and 0 more"), "{found}");
    }
}

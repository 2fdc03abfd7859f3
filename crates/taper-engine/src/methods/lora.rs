use taper_core::Lora;

/// Tells whether a module gets an adapter: PEFT's rule, the exact path or a suffix of it after a dot.
pub(crate) fn matches_target(lora: &Lora, path: &str) -> bool {
    lora.target_modules
        .iter()
        .flatten()
        .any(|target| names(target, path))
}

/// The targets that name none of these modules.
pub(crate) fn unmatched_targets(lora: &Lora, paths: &[String]) -> Vec<String> {
    let unmatched = |target: &&String| !paths.iter().any(|path| names(target, path));
    lora.target_modules
        .iter()
        .flatten()
        .filter(unmatched)
        .cloned()
        .collect()
}

fn names(target: &str, path: &str) -> bool {
    path.strip_suffix(target)
        .is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_names_or_suffixes_after_a_dot() {
        let lora = Lora {
            target_modules: Some(vec!["query".to_owned(), "output.dense".to_owned()]),
            ..Lora::default()
        };
        for (path, matches) in [
            ("bert.encoder.layer.0.attention.self.query", true),
            ("query", true),
            ("bert.encoder.layer.0.myquery", false),
            ("bert.encoder.layer.0.attention.output.dense", true),
            ("bert.encoder.layer.0.intermediate.dense", false),
        ] {
            assert_eq!(matches_target(&lora, path), matches, "{path}");
        }
    }
}

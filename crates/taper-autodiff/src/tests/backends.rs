use candle_core::Device;

use super::{
    cases::{CASES, SIZES},
    difference,
};
use crate::{Cpu, Reference};

#[test]
fn the_cpu_computes_what_the_reference_does() {
    for size in SIZES {
        for (name, case) in CASES {
            let found = case(&Cpu, size).unwrap();
            let expected = case(&Reference::new(&Device::Cpu), size).unwrap();
            assert_eq!(found.len(), expected.len(), "{name}");
            for (place, (found, expected)) in found.iter().zip(&expected).enumerate() {
                let difference = difference(found, expected);
                assert!(
                    difference < 2e-5,
                    "{name} {size:?}: result {place} differs by {difference}"
                );
            }
        }
    }
}

/// The names of the functions in the text of an `impl` or a `trait`.
fn functions(text: &str, start: &str) -> Vec<String> {
    let body = text.split_once(start).unwrap().1;
    let body = body.split_once("\n}\n").unwrap().0;
    let mut names: Vec<String> = body
        .lines()
        .filter_map(|line| line.strip_prefix("    fn "))
        .map(|rest| rest.split(['(', '<']).next().unwrap().to_owned())
        .filter(|name| name != "device")
        .collect();
    names.sort();
    names
}

#[test]
fn every_function_of_a_backend_has_a_case() {
    let mut cases: Vec<_> = CASES.iter().map(|(name, _)| (*name).to_owned()).collect();
    cases.sort();
    let all = functions(include_str!("../backend/mod.rs"), "pub trait Backend");
    assert_eq!(all, cases);
}

/// The reference, which computes for a backend that lacks a function, would do so for outlines too, which have no values.
#[test]
fn counting_lacks_no_function() {
    let counting = include_str!("../backend/counting/mod.rs");
    let all = functions(include_str!("../backend/mod.rs"), "pub trait Backend");
    assert_eq!(functions(counting, "impl Backend for Counting"), all);
}

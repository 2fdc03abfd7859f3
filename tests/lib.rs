//! The tests of the whole: one test binary (`rust/`) that drives the real `taper` over a real socket. Beside it lie the suites in
//! other languages (`clients/`, `browser/`, `peers/`); `tests/run` runs them all.

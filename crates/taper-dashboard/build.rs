//! Builds the page into the build's output folder, so that nothing built lies in the source tree.

use std::{env, fs, path::Path, process::Command};

const WITHOUT_PAGE: &str = "<!doctype html><html lang=\"en\"><title>taper</title>\
<p>This server was built with TAPER_DASHBOARD=off and has no page. \
Build it again without that, with Node 20.19 or newer installed, to get one. The API is at /openapi.json.</p></html>";

fn main() {
    for input in [
        "src",
        "index.html",
        "package.json",
        "package-lock.json",
        "vite.config.ts",
    ] {
        println!("cargo::rerun-if-changed=web/{input}");
    }
    println!("cargo::rerun-if-changed=../../openapi/openapi.json");
    println!("cargo::rerun-if-env-changed=TAPER_DASHBOARD");
    let dist = Path::new(&env::var_os("OUT_DIR").expect("cargo sets it")).join("dist");
    let outcome = if env::var_os("TAPER_DASHBOARD").is_some_and(|value| value == "off") {
        fs::create_dir_all(dist.join("assets"))
            .and_then(|()| fs::write(dist.join("index.html"), WITHOUT_PAGE))
            .map_err(|error| format!("{} cannot be written: {error}", dist.display()))
    } else {
        build_page(&dist)
    };
    if let Err(reason) = outcome {
        println!("cargo::error={reason}");
    }
}

fn build_page(dist: &Path) -> Result<(), String> {
    if !packages_are_current() {
        npm(&["ci", "--no-audit", "--no-fund"])?;
    }
    let dist = dist
        .to_str()
        .ok_or("the build folder's path is not UTF-8")?;
    npm(&["run", "build", "--", "--outDir", dist, "--emptyOutDir"])
}

/// npm writes a copy of the lock file when it has installed everything.
fn packages_are_current() -> bool {
    let written = |path: &str| fs::metadata(path).and_then(|meta| meta.modified()).ok();
    written("web/node_modules/.package-lock.json") >= written("web/package-lock.json")
}

fn npm(arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("npm")
        .args(arguments)
        .current_dir("web")
        .output()
        .map_err(|error| format!("the page is built with npm, which did not start ({error}): install Node 20.19 or newer, or set TAPER_DASHBOARD=off for a server without a page"))?;
    if output.status.success() {
        return Ok(());
    }
    let told = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    let told = told.trim().replace('\n', " | ");
    Err(format!("`npm {}` failed: {told}", arguments.join(" ")))
}

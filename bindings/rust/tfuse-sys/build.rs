// SPDX-License-Identifier: Apache-2.0
//! Finds the installed library by pkg-config: `libtfuse`, or with `TFUSE_STATIC=1` `libtfuse-static`, which the program then carries.
//! Crates that depend on this one see `DEP_TFUSE_LIBDIR` and `DEP_TFUSE_INCLUDE`.

use std::env;
use std::process::Command;

const AT_LEAST: &str = "0.1.0";

fn pkg_config(package: &str, options: &[&str]) -> String {
    let program = env::var("PKG_CONFIG").unwrap_or_else(|_| "pkg-config".to_string());
    let output = Command::new(&program).args(options).arg(package).output();
    let output = output.unwrap_or_else(|e| panic!("cannot run {program}: {e}; install pkg-config, or name it in PKG_CONFIG"));
    if !output.status.success() {
        panic!(
            "{program} does not find {package} {AT_LEAST} or later: {}; install libtfuse (make install), or put its pkgconfig folder into PKG_CONFIG_PATH",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    String::from_utf8_lossy(&output.stdout).trim().to_string()
}

fn main() {
    for name in ["TFUSE_STATIC", "PKG_CONFIG", "PKG_CONFIG_PATH", "PKG_CONFIG_LIBDIR", "PKG_CONFIG_SYSROOT_DIR"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    println!("cargo:rerun-if-changed=build.rs");
    let carried = env::var("TFUSE_STATIC").map_or(false, |v| !v.is_empty() && v != "0");
    let package = if carried { "libtfuse-static" } else { "libtfuse" };
    pkg_config(package, &["--exists", "--print-errors", &format!("--atleast-version={AT_LEAST}")]);
    for word in pkg_config(package, &["--libs"]).split_whitespace() {
        if let Some(folder) = word.strip_prefix("-L") {
            println!("cargo:rustc-link-search=native={folder}");
            println!("cargo:libdir={folder}");
        } else if word == "-l:libtfuse.a" {
            println!("cargo:rustc-link-lib=static=tfuse");
        } else if let Some(library) = word.strip_prefix("-l") {
            println!("cargo:rustc-link-lib=dylib={library}");
        }
    }
    println!("cargo:include={}", pkg_config(package, &["--variable=includedir"]));
}

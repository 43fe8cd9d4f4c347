// SPDX-License-Identifier: Apache-2.0
//! Fuses two checkpoints: `fuse ANCHOR MODEL OUT [CALIBRATION]`. Ctrl-C ends it as usual; nothing is half written.

use std::io::Write;
use std::ops::ControlFlow;
use tfuse::{Array, Context, Level, Model, Policy, Repair};

fn fuse(args: &[String]) -> tfuse::Result<()> {
    let mut ctx = Context::new()?;
    ctx.set_threads(0)?;
    ctx.set_log(Level::Warn, |_, line| eprintln!("{line}"))?;
    ctx.set_progress(|p| {
        eprint!("\r{:<40}", format!("{} {} of {}", p.stage, p.done, p.total));
        let _ = std::io::stderr().flush();
        ControlFlow::Continue(())
    })?;
    let (anchor, model) = (Model::open(&ctx, &args[0])?, Model::open(&ctx, &args[1])?);
    let models = [&anchor, &model];
    let calib = args.get(3).map(|path| Array::open(&ctx, path)).transpose()?;
    let mut policy = Policy::new(&ctx)?;
    policy.set(&ctx, "calib.samples", 100)?;

    let plan = tfuse::align(&ctx, &policy, &models, calib.as_ref())?;
    for map in plan.maps() {
        println!("{:<28} {:<12} {:>5} -> {:<5} cost {:.4}", map.name, map.kind, map.n, map.m, map.cost);
    }
    let repair = Repair::new(&ctx, &policy, &plan, &models, calib.as_ref())?;
    tfuse::fuse_to(&ctx, &policy, &plan, &models, Some(&repair), &args[2])?;
    println!("fused model written to {}", args[2]);
    Ok(())
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.len() < 3 || args.len() > 4 {
        eprintln!("usage: fuse ANCHOR MODEL OUT [CALIBRATION]");
        std::process::exit(2);
    }
    if let Err(error) = fuse(&args) {
        eprintln!("\rfuse: {error}");
        std::process::exit(1);
    }
}

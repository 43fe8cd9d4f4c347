// SPDX-License-Identifier: Apache-2.0
//! The whole way on two real models, and what must hold beside it: errors with their text, panics that go on, cancelling, threads, buffers.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tfuse::*;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/data").join(name)
}

fn vit(ctx: &Context, which: &str) -> Model<'static> {
    Model::open(ctx, data(&format!("vit-fmnist-{which}"))).unwrap()
}

fn images(ctx: &Context) -> Array<'static> {
    Array::open(ctx, data("parity/images_n40.npy")).unwrap()
}

/// A folder of its own, removed in the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("tfuse-rust-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn by(ctx: &Context, strategy: &str) -> Policy {
    let mut policy = Policy::new(ctx).unwrap();
    policy.set(ctx, "align.strategy", strategy).unwrap();
    policy
}

#[test]
fn who_may_be_where() {
    fn send<T: Send>() {}
    fn sync<T: Sync>() {}
    send::<Context>();
    send::<Canceller>();
    sync::<Canceller>();
    send::<Model<'static>>();
    sync::<Model<'static>>();
    sync::<Array<'static>>();
    sync::<Graph>();
    sync::<Plan>();
    sync::<Policy>();
    sync::<Repair>();
    sync::<Solution>();
    sync::<Error>();
}

#[test]
fn from_checkpoints_to_a_checkpoint() {
    let folder = Folder::new("whole");
    let mut ctx = Context::new().unwrap();
    ctx.set_threads(2).unwrap();
    let (a, b) = (vit(&ctx, "a"), vit(&ctx, "b"));
    let models = [&b, &a];
    let calib = images(&ctx);
    let mut policy = Policy::new(&ctx).unwrap();
    policy.set(&ctx, "calib.samples", 40).unwrap().set(&ctx, "repair", "refit,head").unwrap();
    assert!(policy.is_set("repair") && !policy.is_set("run.seed"));
    assert_eq!(policy.get("calib.samples"), Some("40"));
    assert_eq!(policy.get("no.such.key"), None);

    let plan = align(&ctx, &policy, &models, Some(&calib)).unwrap();
    assert!(plan.len() > 5 && plan.maps().all(|m| m.model == 1 && m.n == m.m && !m.kind.is_empty()));
    let matrix = plan.matrix(&ctx, 0).unwrap();
    assert_eq!(matrix.shape(), [plan.map(0).unwrap().n, plan.map(0).unwrap().m]);
    assert!(plan.report(&ctx).unwrap().contains("\"matching\""));
    assert!(self_check(&ctx, &policy, &plan, &models).unwrap().contains("passed"));
    plan.save(&ctx, folder.0.join("ab.plan"), false).unwrap();
    let loaded = Plan::load(&ctx, folder.0.join("ab.plan")).unwrap();
    assert_eq!(loaded.report(&ctx).unwrap(), plan.report(&ctx).unwrap());
    let exists = plan.save(&ctx, folder.0.join("ab.plan"), false).unwrap_err();
    assert_eq!(exists.status(), Status::EEXIST);

    let repair = Repair::new(&ctx, &policy, &plan, &models, Some(&calib)).unwrap();
    assert!(repair.report().contains("\"refit\""));
    let out = folder.0.join("fused");
    fuse_to(&ctx, &policy, &plan, &models, Some(&repair), &out).unwrap();
    fuse_to(&ctx, &policy, &plan, &models, None, folder.0.join("plain")).unwrap();
    let (read, kept) = (Model::open(&ctx, &out).unwrap(), fuse(&ctx, &policy, &plan, &models, Some(&repair)).unwrap());
    assert_eq!(read.path(), out);
    assert_eq!(read.len(), b.len());
    for tensor in kept.tensors() {
        assert_eq!(Some(tensor.bytes().unwrap()), read.tensor(tensor.info.name).unwrap().bytes(), "{}", tensor.info.name);
    }
    let score = eval(&ctx, &kept, None, &calib, None, 8).unwrap();
    assert!(score.n == 8 && score.scored == 0 && score.loss.is_nan());
    let logits = run(&ctx, &kept, None, &calib, 8).unwrap();
    assert_eq!(logits.shape(), [8, 10]);
    logits.save(&ctx, folder.0.join("logits.npy")).unwrap();
    let again = Array::open(&ctx, folder.0.join("logits.npy")).unwrap();
    assert_eq!(again.as_slice::<f32>(), logits.as_slice::<f32>());
    assert!(ctx.memory().unwrap().peak > 0);
}

#[test]
fn into_own_buffers() {
    let ctx = Context::new().unwrap();
    let (a, b) = (vit(&ctx, "a"), vit(&ctx, "b"));
    let models = [&a, &b];
    let policy = by(&ctx, "none");
    let plan = align(&ctx, &policy, &models, None).unwrap();
    let fused = fuse(&ctx, &policy, &plan, &models, None).unwrap();
    let mut own: HashMap<String, Vec<u8>> = a.tensors().map(|t| (t.info.name.to_string(), vec![0; t.info.size])).collect();
    let mut places: HashMap<&str, &mut [u8]> = own.iter_mut().map(|(n, v)| (n.as_str(), v.as_mut_slice())).collect();
    fuse_into(&ctx, &policy, &plan, &models, None, |t| places.remove(t.name)).unwrap();
    drop(places);
    assert!(fused.tensors().all(|t| t.bytes().unwrap() == own[t.info.name].as_slice()));

    let refused = fuse_into(&ctx, &policy, &plan, &models, None, |_| None).unwrap_err();
    assert_eq!(refused.status(), Status::ECALLBACK);
    let mut short = [0u8; 3];
    let mut once = Some(&mut short[..]);
    let wrong = fuse_into(&ctx, &policy, &plan, &models, None, |_| once.take()).unwrap_err();
    assert!(wrong.status() == Status::ESHAPE && wrong.text().contains("the buffer has 3"), "{wrong}");
    let panic = catch_unwind(AssertUnwindSafe(|| fuse_into(&ctx, &policy, &plan, &models, None, |_| panic!("no place"))));
    assert_eq!(panic.unwrap_err().downcast_ref::<&str>(), Some(&"no place"));
}

#[test]
fn errors_have_the_librarys_text() {
    let mut ctx = Context::new().unwrap();
    let missing = Model::open(&ctx, "/no/such/model").unwrap_err();
    assert_eq!(missing.status(), Status::ENOTFOUND);
    assert!(missing.text().contains("/no/such/model") && !missing.text().contains('\n'));
    assert!(format!("{missing:?}").starts_with("TFUSE_ENOTFOUND"));
    let mut policy = Policy::new(&ctx).unwrap();
    let unknown = policy.set(&ctx, "solver.nme", "exact").unwrap_err();
    assert!(unknown.status() == Status::EKEY && unknown.text().contains("solver.name"), "{unknown}");
    assert_eq!(policy.set(&ctx, "solver.reg", "nan").unwrap_err().status(), Status::EKEY);
    assert_eq!(policy.set(&ctx, "a\0b", 1).unwrap_err().status(), Status::EINVAL);
    let numbers = [1f32, 2.0];
    assert_eq!(Array::borrow(&ctx, &[3], &numbers).unwrap_err().status(), Status::ESHAPE);
    assert_eq!(ctx.set_threads(5000).unwrap_err().status(), Status::ERANGE);
    assert_eq!(Graph::from_json(&ctx, "{").unwrap_err().status(), Status::EFORMAT);
    assert!(keys().any(|k| k.name == "solver.reg" && k.kind == KeyKind::Real && k.default == "0.05"));
    assert!(has("lapack") && !has("no such part") && version() >= 100);
}

#[test]
fn closures_panic_cancel_and_log() {
    let mut ctx = Context::new().unwrap();
    let (a, b) = (vit(&ctx, "a"), vit(&ctx, "b"));
    let policy = by(&ctx, "otfusion");
    let lines = Arc::new(AtomicUsize::new(0));
    let counted = lines.clone();
    ctx.set_log(Level::Debug, move |_, line| {
        counted.fetch_add(!line.is_empty() as usize, Ordering::Relaxed);
    })
    .unwrap();
    ctx.set_progress(|_| panic!("in progress")).unwrap();
    let panic = catch_unwind(AssertUnwindSafe(|| align(&ctx, &policy, &[&a, &b], None)));
    assert_eq!(panic.unwrap_err().downcast_ref::<&str>(), Some(&"in progress"));

    ctx.set_progress(|_| ControlFlow::Break(())).unwrap();
    assert_eq!(align(&ctx, &policy, &[&a, &b], None).unwrap_err().status(), Status::ECANCELLED);

    // Another thread, which the progress waits for.
    let canceller = ctx.canceller();
    let (ask, asked) = std::sync::mpsc::channel::<()>();
    let (answer, answered) = std::sync::mpsc::channel::<()>();
    let ends = Mutex::new((ask, answered));
    ctx.set_progress(move |_| {
        let ends = ends.lock().unwrap();
        if ends.0.send(()).is_ok() {
            let _ = ends.1.recv();
        }
        ControlFlow::Continue(())
    })
    .unwrap();
    let other = std::thread::spawn(move || {
        asked.recv().unwrap();
        canceller.cancel();
        answer.send(()).unwrap();
    });
    assert_eq!(align(&ctx, &policy, &[&a, &b], None).unwrap_err().status(), Status::ECANCELLED);
    other.join().unwrap();

    ctx.set_progress(|_| ControlFlow::Continue(())).unwrap();
    assert!(align(&ctx, &policy, &[&a, &b], None).is_ok());
    assert!(lines.load(Ordering::Relaxed) > 0);
}

#[test]
fn a_solver_of_ones_own() {
    let mut ctx = Context::new().unwrap();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    ctx.add_solver("mine", move |p, c| {
        counted.fetch_add(1, Ordering::Relaxed);
        if p.cost[0] == 7.0 {
            return Err(Error::new(Status::ENUMERIC, "seven is too much"));
        }
        assert!(p.cost[0] != 8.0, "eight");
        for i in 0..p.n {
            for j in 0..p.m {
                c.matrix[i * p.m + j] = (p.mu[i] * p.nu[j]) as f32;
            }
        }
        c.converged = !p.cancelled();
        Ok(())
    })
    .unwrap();
    let mut policy = Policy::new(&ctx).unwrap();
    policy.set(&ctx, "solver.name", "mine").unwrap();
    let with = |first: f32| Array::own(&ctx, &[2, 2], vec![first, 1.0, 1.0, 0.0]).unwrap();
    let solved = solve(&ctx, &policy, &with(0.0), None, None).unwrap();
    assert_eq!(solved.coupling(&ctx).unwrap().as_slice::<f32>().unwrap(), [0.25; 4]);
    assert!(solved.potentials(&ctx).unwrap_err().status() == Status::ENOTFOUND && solved.info().n == 2);
    let error = solve(&ctx, &policy, &with(7.0), None, None).unwrap_err();
    assert_eq!((error.status(), error.text()), (Status::ENUMERIC, "seven is too much"));
    let panic = catch_unwind(AssertUnwindSafe(|| solve(&ctx, &policy, &with(8.0), None, None)));
    assert!(panic.is_err());
    assert_eq!(calls.load(Ordering::Relaxed), 3);

    let exact = Policy::new(&ctx).unwrap();
    let mass = Array::own(&ctx, &[2], vec![0.25f64, 0.75]).unwrap();
    let cost = with(0.5);
    let one = solve(&ctx, &exact, &cost, Some(&mass), Some(&mass)).unwrap();
    let (u, v) = one.potentials(&ctx).unwrap();
    let tasks = [Task { cost: &cost, mu: Some(&mass), nu: Some(&mass), u: Some(&u), v: Some(&v) }; 2];
    let batch = solve_batch(&ctx, &exact, &tasks).unwrap();
    assert!(batch.iter().all(|s| s.info().cost == one.info().cost && s.info().converged && !s.method().is_empty()));
    assert!(solve_batch(&ctx, &exact, &[]).unwrap().is_empty());
}

struct Scoped(AtomicUsize);

impl Executor for Scoped {
    fn concurrency(&self) -> u32 {
        3
    }
    fn parallel_for(&self, n: u32, body: &(dyn Fn(u32) + Sync)) {
        self.0.fetch_add(1, Ordering::Relaxed);
        std::thread::scope(|s| {
            for t in 0..3 {
                s.spawn(move || (t..n).step_by(3).filter(|&i| i != 1).for_each(body));
                // what is left out is made up for
            }
        });
    }
}

#[test]
fn own_threads_and_two_contexts_on_one_model() {
    let mut ctx = Context::new().unwrap();
    let model = vit(&ctx, "a");
    let inputs = images(&ctx);
    let plain = run(&ctx, &model, None, &inputs, 0).unwrap();
    let executor = Arc::new(Scoped(AtomicUsize::new(0)));
    ctx.set_executor(executor.clone()).unwrap();
    let own = run(&ctx, &model, None, &inputs, 0).unwrap();
    assert_eq!(own.as_slice::<f32>(), plain.as_slice::<f32>());
    assert!(executor.0.load(Ordering::Relaxed) > 0);
    std::thread::scope(|s| {
        for _ in 0..2 {
            s.spawn(|| {
                let ctx = Context::new().unwrap();
                let same = run(&ctx, &model, None, &inputs, 0).unwrap();
                assert_eq!(same.as_slice::<f32>(), plain.as_slice::<f32>());
            });
        }
    });
}

#[test]
fn graphs_gauges_and_looking_before() {
    let folder = Folder::new("graphs");
    let ctx = Context::new().unwrap();
    let model = vit(&ctx, "a");
    let graph = Graph::infer(&ctx, &model).unwrap();
    let again = Graph::from_json(&ctx, &graph.to_json(&ctx).unwrap()).unwrap();
    again.check(&ctx, &model).unwrap();
    assert_eq!(again.describe(&ctx, Some(&model)).unwrap(), graph.describe(&ctx, Some(&model)).unwrap());
    assert!(Model::open_config(&ctx, data("vit-fmnist-a").join("config.json")).unwrap().config().contains("model_type"));
    let mut builder = GraphBuilder::new(&ctx).unwrap();
    builder.buffer("rotary.*").unwrap();
    assert_eq!(builder.buffer("a*b*").unwrap_err().status(), Status::EINVAL);

    let mut policy = Policy::new(&ctx).unwrap();
    let plan = gauge(&ctx, &policy, &model).unwrap();
    policy.set(&ctx, "combine.weights", "0,1").unwrap();
    let moved = fuse(&ctx, &policy, &plan, &[&model, &model], None).unwrap();
    let inputs = images(&ctx);
    let (x, y) = (run(&ctx, &model, None, &inputs, 4).unwrap(), run(&ctx, &moved, None, &inputs, 4).unwrap());
    let far = x.as_slice::<f32>().unwrap().iter().zip(y.as_slice::<f32>().unwrap()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(far < 1e-3, "{far}");

    let paths = [data("vit-fmnist-a"), data("vit-fmnist-b")];
    let mut look = RunPaths { models: paths.iter().map(|p| p.as_path()).collect(), ..RunPaths::default() };
    assert!(dry_run(&ctx, &policy, &look).unwrap().contains("\"problems\":[]"));
    look.out = Some(&folder.0);
    assert!(dry_run(&ctx, &policy, &look).unwrap().contains("tfuse-rust-graphs"));
    ctx.save_file(folder.0.join("report"), b"text", false).unwrap();
    assert_eq!(ctx.save_file(folder.0.join("report"), b"text", false).unwrap_err().status(), Status::EEXIST);
    ctx.check_output(folder.0.join("report"), false, true).unwrap();
    assert_eq!(ctx.check_output(folder.0.join("report"), true, true).unwrap_err().status(), Status::EEXIST);
}

#[test]
fn tensors_in_memory() {
    let ctx = Context::new().unwrap();
    let halves = [Bf16(0x3f80), Bf16(0xc000), Bf16(0x3f00), Bf16(0)]; // 1, -2, 0.5, 0
    let mut builder = ModelBuilder::new(&ctx, None).unwrap();
    builder.borrow_strided("b", &[2, 2], &[1, 2], &halves).unwrap();
    builder.own("a", &[3], vec![1f64, 2.0, 3.0]).unwrap();
    builder.own("empty", &[0, 4], Vec::<f32>::new()).unwrap();
    assert_eq!(builder.own("a", &[1], vec![0f32]).unwrap_err().status(), Status::EINVAL);
    assert_eq!(builder.borrow("c", &[5], &halves).unwrap_err().status(), Status::ESHAPE);
    assert_eq!(builder.borrow_strided("c", &[2, 2], &[1, 3], &halves).unwrap_err().status(), Status::ESHAPE);
    unsafe { builder.lend_raw("d", &[2], &[-1], &halves[1]).unwrap() };
    let model = builder.seal().unwrap();
    assert_eq!(model.tensors().map(|t| t.info.name.to_string()).collect::<Vec<_>>(), ["a", "b", "d", "empty"]);
    assert_eq!(model.tensor("a").unwrap().as_slice::<f64>(), Some(&[1.0, 2.0, 3.0][..]));
    assert!(model.tensor("a").unwrap().as_slice::<f32>().is_none() && model.tensor("b").unwrap().bytes().is_none());
    assert_eq!(model.read::<f32>(&ctx, "b").unwrap(), [1.0, 0.5, -2.0, 0.0]);
    assert_eq!(model.read::<f64>(&ctx, "d").unwrap(), [-2.0, 1.0]);
    assert!(model.read::<f32>(&ctx, "empty").unwrap().is_empty());
    assert_eq!(model.read::<f32>(&ctx, "z").unwrap_err().status(), Status::ENOTFOUND);
    assert_eq!((Dtype::BF16.size(), Dtype::BF16.name(), Dtype(99).size()), (2, "BF16", 0));
}

#[repr(C)]
struct Managed {
    data: *mut f32,
    device: [i32; 2],
    ndim: i32,
    dtype: [u8; 2],
    lanes: u16,
    shape: *mut i64,
    strides: *mut i64,
    byte_offset: u64,
    context: *const AtomicUsize,
    deleter: unsafe extern "C" fn(*mut Managed),
}

unsafe extern "C" fn deleted(managed: *mut Managed) {
    (*(*managed).context).fetch_add(1, Ordering::Relaxed);
}

#[repr(C)]
struct Versioned {
    version: [u32; 2],
    context: *const AtomicUsize,
    deleter: unsafe extern "C" fn(*mut Versioned),
    flags: u64,
    data: *mut f32,
    device: [i32; 2],
    ndim: i32,
    dtype: [u8; 2],
    lanes: u16,
    shape: *mut i64,
    strides: *mut i64,
    byte_offset: u64,
}

unsafe extern "C" fn deleted_versioned(managed: *mut Versioned) {
    (*(*managed).context).fetch_add(1, Ordering::Relaxed);
}

#[test]
fn dlpack_comes_back_once() {
    let ctx = Context::new().unwrap();
    let count = AtomicUsize::new(0);
    let (mut numbers, mut shape, mut strides) = ([1f32, 2.0, 3.0, 4.0], [2i64, 2], [1i64, 2]);
    let (data, shape, strides) = (numbers.as_mut_ptr(), shape.as_mut_ptr(), strides.as_mut_ptr());
    let old =
        || Managed { data, device: [1, 0], ndim: 2, dtype: [2, 32], lanes: 1, shape, strides, byte_offset: 0, context: &count, deleter: deleted };
    let new = |version| Versioned {
        version: [version, 0],
        context: &count,
        deleter: deleted_versioned,
        flags: 0,
        data,
        device: [1, 0],
        ndim: 2,
        dtype: [2, 32],
        lanes: 1,
        shape,
        strides: std::ptr::null_mut(),
        byte_offset: 0,
    };
    let (mut a, mut b, mut c, mut d, mut e) = (old(), old(), new(1), new(1), new(9));
    unsafe {
        let mut builder = ModelBuilder::new(&ctx, None).unwrap();
        builder.add_dlpack("a", &mut a as *mut Managed as *mut sys::DLManagedTensor).unwrap();
        builder.add_dlpack_versioned("c", &mut c as *mut Versioned as *mut sys::DLManagedTensorVersioned).unwrap();
        let later = builder.add_dlpack_versioned("e", &mut e as *mut Versioned as *mut sys::DLManagedTensorVersioned).unwrap_err();
        assert_eq!((later.status(), count.load(Ordering::Relaxed)), (Status::EVERSION, 1));
        let model = builder.seal().unwrap();
        assert_eq!(model.read::<f32>(&ctx, "a").unwrap(), [1.0, 3.0, 2.0, 4.0]);
        drop(model);
        assert_eq!(count.load(Ordering::Relaxed), 3);
        let copied = Array::from_dlpack(&ctx, &mut b as *mut Managed as *mut sys::DLManagedTensor).unwrap();
        let borrowed = Array::from_dlpack_versioned(&ctx, &mut d as *mut Versioned as *mut sys::DLManagedTensorVersioned).unwrap();
        assert_eq!(count.load(Ordering::Relaxed), 4);
        assert_eq!(copied.as_slice::<f32>().unwrap(), [1.0, 3.0, 2.0, 4.0]);
        assert_eq!(borrowed.as_slice::<f32>().unwrap(), [1.0, 2.0, 3.0, 4.0]);
    }
    assert_eq!(count.load(Ordering::Relaxed), 5);
}

#[test]
fn statistics_in_two_sweeps() {
    let ctx = Context::new().unwrap();
    let (a, b) = (vit(&ctx, "a"), vit(&ctx, "b"));
    let mut policy = by(&ctx, "otfusion");
    policy.set(&ctx, "otfusion.compat", 1).unwrap().set(&ctx, "otfusion.residual", "matrix").unwrap();
    policy.set(&ctx, "otfusion.cost", "activations").unwrap();
    let mut stats = Stats::new(&ctx, &policy, &[&a, &b]).unwrap();
    let wants = stats.wants();
    assert!(!wants.is_empty() && stats.sweeps() == 2);
    let missing = stats.step().unwrap_err();
    assert_eq!(missing.status(), Status::ESTATE);
    for sweep in 0..2 {
        for w in &wants {
            let tokens = w.tokens.max(1);
            let numbers = (0..4 * tokens * w.units).map(|i| ((i * 37 + w.model as i64 * 11) % 101) as f32 / 50.0 - 1.0).collect();
            let batch = Array::own(&ctx, &[4, tokens, w.units], numbers).unwrap();
            stats.feed(w.model, &w.value, &batch).unwrap();
        }
        stats.step().unwrap();
        if sweep == 0 {
            stats.rewind().unwrap();
        }
    }
    assert!(!stats.align(&policy).unwrap().is_empty());
    let mut ids = Array::own(&ctx, &[1, 2], vec![1i64, 2]).unwrap();
    ids.attach(&ctx, "attention_mask", Array::own(&ctx, &[1, 2], vec![1i64, 0]).unwrap()).unwrap();
    assert!(ids.attach(&ctx, "attention_mask", Array::own(&ctx, &[1, 2], vec![1i64, 0]).unwrap()).is_err());
}

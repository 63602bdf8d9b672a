//! Methods that project steps or gradients: GEM's quadratic program, MEGA's weights, null spaces of layers' inputs, OWM's projectors.

use crate::common;
use crate::common::formula::{self, Formula};
use crate::common::runs::{Pairs, config, glyphs, trained};
use engram::continual::{InputMoments, gem_multipliers, null_space_projector, owm_projector, unfold};
use engram::linalg::{Matrix, symmetric_eigen};
use engram::models::{LayerList, Network};
use engram::ops::{Conv2d, Mode};
use engram::optim::{Kind, Optimizer};
use engram::rng::{Purpose, Rng};
use engram::{Device, Tensor};

fn random(rows: usize, columns: usize, key: u64) -> Matrix {
    let mut rng = Rng::keyed(2, Purpose::Test, key);
    let values: Vec<f64> = (0..rows * columns).map(|_| f64::from(rng.normal())).collect();
    Matrix::new(rows, columns, values).unwrap()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn numbers(value: &serde_json::Value) -> Vec<f64> {
    serde_json::from_value(value.clone()).unwrap()
}

fn matrix(value: &serde_json::Value) -> Matrix {
    let rows: Vec<Vec<f64>> = serde_json::from_value(value.clone()).unwrap();
    Matrix::new(rows.len(), rows[0].len(), rows.concat()).unwrap()
}

/// ½·vᵀHv + qᵀv.
fn objective(h: &Matrix, q: &[f64], v: &[f64]) -> f64 {
    (0..q.len()).map(|i| 0.5 * v[i] * dot(h.row(i), v) + q[i] * v[i]).sum()
}

/// The least objective over all sets of multipliers at the margin: the others solve a linear system, and count if none is below it.
fn enumerated(h: &Matrix, q: &[f64], margin: f64) -> f64 {
    let n = q.len();
    let mut best = f64::INFINITY;
    for set in 0..1u32 << n {
        let free: Vec<usize> = (0..n).filter(|i| set >> i & 1 == 1).collect();
        let mut v = vec![margin; n];
        if !free.is_empty() {
            let part = Matrix::from_fn(free.len(), free.len(), |i, j| h.at(free[i], free[j]));
            let fixed = |i: usize| (0..n).filter(|j| !free.contains(j)).map(|j| h.at(i, j) * margin).sum::<f64>();
            let target = Matrix::from_fn(free.len(), 1, |i, _| -q[free[i]] - fixed(free[i]));
            let x = engram::linalg::Cholesky::new(&part).unwrap().solve(&target).unwrap();
            free.iter().zip(x.values()).for_each(|(&i, &x)| v[i] = x);
        }
        if v.iter().all(|v| *v >= margin - 1e-12) {
            best = best.min(objective(h, q, &v));
        }
    }
    best
}

#[test]
fn multipliers_satisfy_the_conditions_of_a_minimum_and_are_the_best_of_all_sets() {
    let mut n_mixed = 0;
    for key in 0..60 {
        let (n, margin, ridge) = (1 + key as usize % 8, [0.0, 0.5][key as usize % 2], 1e-3);
        let (gradients, new) = (random(n, 12, 2 * key), random(1, 12, 2 * key + 1));
        let h = gradients.transposed().gram();
        let q: Vec<f64> = (0..n).map(|i| dot(gradients.row(i), new.row(0))).collect();
        let v = gem_multipliers(&h, &q, margin, ridge).unwrap();
        let with_ridge = Matrix::from_fn(n, n, |i, j| h.at(i, j) + if i == j { ridge } else { 0.0 });
        // Stationary where free, and not falling below the margin where fixed.
        for i in 0..n {
            let slope = dot(with_ridge.row(i), &v) + q[i];
            assert!(v[i] >= margin - 1e-12 && slope >= -1e-8, "{key}: v[{i}] = {}, slope {slope}", v[i]);
            assert!((v[i] - margin) * slope < 1e-7, "{key}: neither v[{i}] nor its slope is 0");
        }
        let best = enumerated(&with_ridge, &q, margin);
        assert!((objective(&with_ridge, &q, &v) - best).abs() < 1e-8 * best.abs().max(1.0), "{key}");
        n_mixed += usize::from(v.contains(&margin) && v.iter().any(|v| *v > margin));
    }
    assert!(n_mixed > 10, "hardly any program had both kinds of multipliers: {n_mixed}");
}

/// Without margin and ridge no earlier task's loss rises: Gg̃ ≥ 0.
#[test]
fn the_projected_gradient_opposes_no_task() {
    for key in 0..20 {
        let (gradients, new) = (random(4, 9, 100 + 2 * key), random(1, 9, 101 + 2 * key));
        let q: Vec<f64> = (0..4).map(|i| dot(gradients.row(i), new.row(0))).collect();
        let v = gem_multipliers(&gradients.transposed().gram(), &q, 0.0, 1e-12).unwrap();
        let changed = Matrix::new(1, 4, v).unwrap().times(&gradients).unwrap();
        let g: Vec<f64> = new.row(0).iter().zip(changed.row(0)).map(|(a, b)| a + b).collect();
        assert!((0..4).all(|i| dot(gradients.row(i), &g) >= -1e-8), "{key}");
    }
    assert!(gem_multipliers(&Matrix::from_fn(2, 2, |_, _| 0.0), &[1.0], 0.0, 1.0).is_err());
}

/// GEM's gradients on a batch and two memories, against a transcription in PyTorch (`tests/golden/make_vdfd.py`).
#[test]
fn gem_is_its_transcription() {
    let golden = formula::golden("projections.json");
    for device in [Some(Device::cpu()), common::gpu(false)].into_iter().flatten() {
        let formula = Formula::new(&device);
        for case in golden["gem"].as_array().unwrap() {
            formula.set_weights(case["salt"].as_f64().unwrap() as usize);
            let margin = case["margin"].to_string();
            let settings = [("memory", "24"), ("replay_batch", "12"), ("margin", &margin), ("ridge", "1e-3")];
            let mut gem = formula::method("gem", &settings);
            gem.end_task(&formula.learner, &formula.task_of(0, 0..12)).unwrap();
            gem.end_task(&formula.learner, &formula.task_of(1, 12..24)).unwrap();
            let batch = formula.batch(&(24..32).collect::<Vec<_>>(), 0, 4);
            let loss = gem.observe(&formula.learner, &batch).unwrap().total().unwrap();
            let parameters = &formula.learner.network.parameters;
            parameters.backward(&loss).unwrap();
            gem.adjust_gradients(&formula.learner, &batch).unwrap();
            let own = parameters.gradients_to_host().unwrap().concat();
            let expected = numbers(&case["gradient"]);
            let largest = expected.iter().fold(0.0f64, |largest, x| largest.max(x.abs()));
            assert_eq!(own.len(), expected.len());
            for (i, (own, expected)) in own.iter().zip(&expected).enumerate() {
                assert!((f64::from(*own) - expected).abs() < 1e-4 * largest, "{case}: {own} at {i}");
            }
        }
    }
}

#[test]
fn gem_leaves_a_gradient_that_opposes_nothing_as_it_is() {
    let formula = Formula::new(&Device::cpu());
    formula.set_weights(3);
    let mut gem = formula::method("gem", &[("memory", "24"), ("replay_batch", "24")]);
    gem.end_task(&formula.learner, &formula.task(0)).unwrap();
    // The memory itself as a batch.
    let batch = formula.batch(&(0..24).collect::<Vec<_>>(), 0, 0);
    let parameters = &formula.learner.network.parameters;
    parameters.backward(&gem.observe(&formula.learner, &batch).unwrap().total().unwrap()).unwrap();
    let before = parameters.gradients().unwrap().to_vec().unwrap();
    gem.adjust_gradients(&formula.learner, &batch).unwrap();
    assert_eq!(parameters.gradients().unwrap().to_vec().unwrap(), before);
}

/// The first task is fine-tuning bit by bit: nothing is kept yet.
#[test]
fn the_first_task_is_finetuning() {
    let usual: Pairs =
        &[("model", "mlp"), ("width", "0.125"), ("classes_per_task", "4"), ("epochs", "2"), ("memory", "20")];
    let first = |name: &str, more: Pairs| {
        let more = [&[("max_tasks", "1")], more].concat();
        trained(&config(name, usual, &more), &glyphs(160, 60)).1
    };
    let plain = first("finetune", &[]);
    for (name, more) in [("gem", &[][..]), ("mega", &[]), ("adam-nscl", &[("norm_factor", "1")]), ("owm", &[])] {
        assert!(first(name, more) == plain, "{name}");
    }
}

/// In the first task too; weights, and all of the last layer, move as they would.
#[test]
fn other_parameters_have_a_rate_of_their_own_in_every_task() {
    let step = |name: &str| -> Vec<Vec<f32>> {
        let formula = Formula::new(&Device::cpu());
        formula.set_weights(3);
        let (learner, mut method) = (&formula.learner, formula::method(name, &[]));
        let parameters = &learner.network.parameters;
        let values =
            || -> Vec<Vec<f32>> { parameters.to_host().unwrap().into_iter().map(|(_, _, values)| values).collect() };
        method.begin_task(learner, &formula.task(0)).unwrap();
        let before = values();
        let batch = formula.batch(&(0..24).collect::<Vec<_>>(), 0, 0);
        parameters.backward(&method.observe(learner, &batch).unwrap().total().unwrap()).unwrap();
        method.adjust_gradients(learner, &batch).unwrap();
        Optimizer::new(Kind::Sgd, 0.0, 0.0, parameters).unwrap().step(parameters, 0.1).unwrap();
        method.after_step(learner, &batch).unwrap();
        let moved = |(after, before): (Vec<f32>, Vec<f32>)| {
            after.into_iter().zip(before).map(|(after, before)| after - before).collect()
        };
        values().into_iter().zip(before).map(moved).collect()
    };
    // Weight and bias of two hidden layers, and of the last.
    for (i, (own, plain)) in step("adam-nscl").iter().zip(step("finetune")).enumerate() {
        let factor = if [1, 3].contains(&i) { 5.0 } else { 1.0 };
        assert!(plain.iter().any(|by| by.abs() > 1e-4), "parameter {i} does not move");
        for (own, plain) in own.iter().zip(plain) {
            assert!((own - factor * plain).abs() < 1e-6, "parameter {i}: {own}, {plain} alone");
        }
    }
}

/// A row of patches times a row of weights is what the convolution says there.
#[test]
fn patches_are_what_a_convolution_multiplies() {
    let device = Device::cpu();
    let mut rng = Rng::keyed(2, Purpose::Test, 50);
    for (kernel, geometry) in
        [(3, Conv2d::new(1, 1)), (3, Conv2d::new(2, 1)), (1, Conv2d::new(2, 0)), (2, Conv2d::new(1, 0))]
    {
        let mut draw = |n: usize| (0..n).map(|_| rng.normal()).collect::<Vec<f32>>();
        let (map, weight) = (draw(2 * 7 * 5), draw(3 * 2 * kernel * kernel));
        let x = Tensor::from_f32(&device, [1, 2, 7, 5], &map).unwrap();
        let w = Tensor::from_f32(&device, [3, 2, kernel, kernel], &weight).unwrap();
        let expected = x.conv2d(&w, None, geometry).unwrap();
        let rows = unfold(&map, [2, 7, 5], kernel, geometry);
        let depth = 2 * kernel * kernel;
        let places = rows.len() / depth;
        assert_eq!(3 * places, expected.n_elements());
        for (i, expected) in expected.to_vec().unwrap().iter().enumerate() {
            let w: Vec<f64> = weight[i / places * depth..][..depth].iter().map(|&w| f64::from(w)).collect();
            let own = dot(&rows[i % places * depth..][..depth], &w);
            assert!((own - f64::from(*expected)).abs() < 1e-5, "{kernel}: {own} instead of {expected}");
        }
    }
}

/// Moments and projectors against a transcription in PyTorch (`tests/golden/make_vdfd.py`).
#[test]
fn null_spaces_are_those_of_the_transcription() {
    let golden = formula::golden("projections.json");
    for device in [Some(Device::cpu()), common::gpu(false)].into_iter().flatten() {
        let mut formula = Formula::new(&device);
        formula.learner.at_once = 8;
        formula.set_weights(3);
        let mut moments = InputMoments::default();
        let samples: Vec<u32> = (0..24).collect();
        moments.add_task(&formula.learner, &formula.task(0), &samples, true).unwrap();
        for (layer, golden) in golden["null_space"].as_array().unwrap().iter().enumerate() {
            let (own, theirs) = (moments.matrix(layer), matrix(&golden["moments"]));
            for (own, theirs) in own.values().iter().zip(theirs.values()) {
                assert!((own - theirs).abs() < 1e-5 * theirs.abs().max(1.0), "layer {layer}: {own}, not {theirs}");
            }
            let (own, theirs) =
                (null_space_projector(&matrix(&golden["regular"]), 10.0).unwrap(), matrix(&golden["projector"]));
            for (own, theirs) in own.values().iter().zip(theirs.values()) {
                assert!((own - theirs).abs() < 1e-6, "layer {layer}: {own} instead of {theirs}");
            }
        }
    }
}

#[test]
fn projectors_are_idempotent_and_orthogonal_to_what_is_stored() {
    for key in 0..5 {
        // Inputs in four of ten directions.
        let inputs = random(30, 4, 200 + key).times(&random(4, 10, 300 + key)).unwrap();
        let moments = inputs.gram();
        let p = null_space_projector(&moments, 10.0).unwrap();
        let rank = (0..10).map(|i| p.at(i, i)).sum::<f64>().powi(2).round();
        assert_eq!(rank, 6.0, "{key}: six directions are free");
        let norm = rank.sqrt();
        let twice = p.times(&p).unwrap();
        for (twice, once) in twice.values().iter().zip(p.values()) {
            assert!((norm * twice - once).abs() < 1e-12, "{key}: {twice} and {once}");
        }
        let stored = inputs.times(&p).unwrap();
        assert!(stored.values().iter().all(|x| x.abs() < 1e-9), "{key}");
        // OWM's with a small α is nearly that projector without its norm.
        let owm = owm_projector(&moments, 1e-7).unwrap();
        assert!(inputs.times(&owm).unwrap().values().iter().all(|x| x.abs() < 1e-5), "{key}");
        for (owm, p) in owm.values().iter().zip(p.values()) {
            assert!((owm - norm * p).abs() < 1e-5, "{key}: {owm}");
        }
    }
    // All directions as full: the least is left.
    let p = null_space_projector(&Matrix::from_fn(3, 3, |i, j| if i == j { [1.0, 30.0, 50.0][i] } else { 0.0 }), 10.0)
        .unwrap();
    assert!((p.at(0, 0) - 1.0).abs() < 1e-12 && p.at(1, 1).abs() < 1e-12);
}

/// P ← P − P·x·xᵀ·P/(α + xᵀ·P·x) input by input.
#[test]
fn recursive_least_squares_arrive_at_owms_projector() {
    let (inputs, alpha) = (random(25, 7, 400), 0.3);
    let mut p = Matrix::from_fn(7, 7, |i, j| f64::from(u8::from(i == j)));
    for k in 0..25 {
        let x = Matrix::new(7, 1, inputs.row(k).to_vec()).unwrap();
        let px = p.times(&x).unwrap();
        let scale = alpha + dot(x.values(), px.values());
        p = Matrix::from_fn(7, 7, |i, j| p.at(i, j) - px.at(i, 0) * px.at(j, 0) / scale);
    }
    let own = owm_projector(&inputs.gram(), alpha).unwrap();
    for (own, recursive) in own.values().iter().zip(p.values()) {
        assert!((own - recursive).abs() < 1e-12, "{own} and {recursive}");
    }
    assert!(symmetric_eigen(&own).unwrap().values.iter().all(|x| *x > 0.0 && *x <= 1.0));
}

/// Two launches for each weight, and few for all that is between them.
#[test]
fn projected_steps_take_few_launches() {
    let Some(device) = common::gpu(false) else { return };
    let Device::Gpu(gpu) = &device else { panic!("no GPU") };
    let layer = |i: usize| format!(r#"{{"kind": "linear", "name": "l{i}", "out": 8}}, "#);
    let layers: String = (0..8).map(layer).collect();
    let list = format!(
        r#"{{"format": 1, "input": [1, 4, 4], "layers": [{layers}{{"kind": "feature"}}, {{"kind": "linear", "name": "last"}}]}}"#
    );
    let list = LayerList::from_json(&serde_json::from_str(&list).unwrap(), "deep.json").unwrap();
    let network = Network::from_list("deep", &list, [1, 4, 4], 8, &device, 1).unwrap();
    let formula = Formula::with(network, &device);
    let learner = &formula.learner;
    let mut method = formula::method("adam-nscl", &[("norm_factor", "2"), ("later_factor", "0.5")]);
    method.begin_task(learner, &formula.task(0)).unwrap();
    method.end_task(learner, &formula.task(0)).unwrap();
    method.begin_task(learner, &formula.task(1)).unwrap();
    let batch = formula.batch(&[24, 25, 26, 27], 1 << 32, 4);
    method.adjust_gradients(learner, &batch).unwrap();
    let launches = gpu.profile(|| method.after_step(learner, &batch)).unwrap();
    let products: u64 = launches.iter().filter(|row| row.kernel.starts_with("matmul")).map(|row| row.dispatches).sum();
    let all: u64 = launches.iter().map(|row| row.dispatches).sum();
    let packed = launches.iter().find(|row| row.kernel == "pack").map_or(0, |row| row.dispatches);
    assert!(products == 8 && all - packed <= 2 * products + 8, "{all} launches, {products} products, {packed} packed");
}

/// Two linear layers, and images in few directions: steps in the null space leave all that the layers say of them as it is.
#[test]
fn steps_in_the_null_space_leave_old_outputs_of_a_linear_network_unchanged() {
    let list = r#"{"format": 1, "input": [1, 4, 4], "layers": [
        {"kind": "linear", "name": "one", "out": 12}, {"kind": "linear", "name": "two", "out": 10}, {"kind": "feature"},
        {"kind": "linear", "name": "last"}]}"#;
    let list = LayerList::from_json(&serde_json::from_str(list).unwrap(), "linear.json").unwrap();
    for (name, settings) in [
        ("adam-nscl", &[("covariance_of", "images"), ("norm_factor", "0"), ("null_space", "10")][..]),
        ("owm", &[("owm_alpha", "1e-5")][..]),
    ] {
        let network = Network::from_list("linear", &list, [1, 4, 4], 8, &Device::cpu(), 1).unwrap();
        let mut formula = Formula::with(network, &Device::cpu());
        // OWM sees means of batches: of one image each it sees images.
        formula.learner.at_once = if name == "owm" { 1 } else { 8 };
        let learner = &formula.learner;
        let mut method = formula::method(name, settings);
        // Six images of 16 pixels: ten directions are free.
        let (old, task) = ((0..6).collect::<Vec<u32>>(), formula.task_of(0, 0..6));
        let features = || learner.network.forward(&learner.plain_input(&old).unwrap(), Mode::Eval).unwrap().features;
        method.begin_task(learner, &task).unwrap();
        method.end_task(learner, &task).unwrap();
        method.begin_task(learner, &formula.task(1)).unwrap();
        let (before, all_before) =
            (features().to_vec().unwrap(), learner.network.parameters.values().to_vec().unwrap());
        let mut optimizer = Optimizer::new(Kind::Adam, 0.0, 0.0, &learner.network.parameters).unwrap();
        for step in 0..30u32 {
            let samples: Vec<u32> = (0..8).map(|k| 24 + (8 * step + k) % 24).collect();
            let batch = formula.batch(&samples, (1 << 32) | u64::from(step), 4);
            let loss = method.observe(learner, &batch).unwrap().total().unwrap();
            learner.network.parameters.backward(&loss).unwrap();
            method.adjust_gradients(learner, &batch).unwrap();
            optimizer.step(&learner.network.parameters, 0.01).unwrap();
            method.after_step(learner, &batch).unwrap();
        }
        let moved = learner.network.parameters.values().to_vec().unwrap();
        let largest_step =
            moved.iter().zip(&all_before).take(12 * 16).fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
        assert!(largest_step > 1e-2, "{name}: the first layer has hardly moved, {largest_step}");
        let largest = before.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        for (after, before) in features().to_vec().unwrap().iter().zip(&before) {
            assert!((after - before).abs() < 1e-3 * largest, "{name}: {after} instead of {before}");
        }
    }
}

#[test]
fn the_memory_counts_as_much_more_as_it_is_worse_learnt() {
    let formula = Formula::new(&Device::cpu());
    formula.set_weights(3);
    let mut mega = formula::method("mega", &[("memory", "24"), ("replay_batch", "24")]);
    let batch = formula.batch(&(24..32).collect::<Vec<_>>(), 0, 4);
    assert_eq!(mega.observe(&formula.learner, &batch).unwrap().0.len(), 1, "nothing is kept yet");
    mega.end_task(&formula.learner, &formula.task(0)).unwrap();
    let loss = mega.observe(&formula.learner, &batch).unwrap();
    let [new, old] = [0, 1].map(|i| loss.0[i].value.item().unwrap());
    assert_eq!([loss.0[0].weight, loss.0[1].weight], [1.0, old / new]);
}

/// With fewer images than tasks the latest tasks have one each; the memory is never thrown away.
#[test]
fn gem_with_fewer_images_than_tasks_keeps_the_latest() {
    let formula = Formula::new(&Device::cpu());
    let mut gem = formula::method("gem", &[("memory", "8")]);
    for task in 0..12 {
        let first = 4 * task as u32;
        let data = formula.task_of(task, first..first + 4);
        gem.begin_task(&formula.learner, &data).unwrap();
        gem.end_task(&formula.learner, &data).unwrap();
        let expected = if task == 0 { 4 } else { 8 };
        assert_eq!(gem.exemplars().concat().len(), expected, "after task {task}");
    }
}

/// Where tasks compete for the outputs, the steps of the last layer are projected too.
#[test]
fn without_the_task_owm_projects_the_last_layer() {
    let mut learner = Formula::new(&Device::cpu()).learner;
    let n_layers = learner.network.products().len();
    let formula = Formula::new(&Device::cpu());
    let count = |learner: &engram::continual::Learner| {
        let mut moments = InputMoments::default();
        moments.add_task(learner, &formula.task(0), &[0, 1, 2], true).unwrap();
        moments.sums.len()
    };
    assert_eq!(count(&learner), n_layers - 1);
    learner.heads.clear();
    assert_eq!(count(&learner), n_layers);
}

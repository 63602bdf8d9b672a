//! The one training loop: several networks in one step, losses written down, divergence, interruption.

use crate::common;
use engram::models::Network;
use engram::nn::Loss;
use engram::ops::Mode;
use engram::optim::{Kind, Optimizer};
use engram::rng::{Purpose, Rng};
use engram::training::Listener;
use engram::training::{
    CrossEntropy, Fall, Log, LoopSeconds, Objective, Plan, Progress, Schedule, Silent, Started, Step, TermRecord,
    Trainee, Trainer, WarmUp,
};
use engram::{Device, Error, Result, Tensor};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

static NEVER: AtomicBool = AtomicBool::new(false);
const INPUT: [usize; 3] = [1, 6, 6];
const N_CLASSES: usize = 4;

fn new(device: &Device, seed: u64, momentum: f32) -> (Network, Optimizer) {
    let network = Network::new("mlp", INPUT, N_CLASSES, device, seed).unwrap();
    let optimizer = Optimizer::new(Kind::Sgd, momentum, 1e-3, &network.parameters).unwrap();
    (network, optimizer)
}

/// Images and labels of one step.
fn batch(device: &Device, step: usize) -> (Tensor, Tensor) {
    let mut rng = Rng::keyed(1, Purpose::Test, step as u64);
    let pixels: Vec<f32> = (0..8 * 36).map(|_| rng.range(-1.0, 1.0)).collect();
    let labels: Vec<u32> = (0..8).map(|_| rng.below(N_CLASSES as u32)).collect();
    (Tensor::from_f32(device, [8, 1, 6, 6], &pixels).unwrap(), Tensor::from_u32(device, [8], &labels).unwrap())
}

fn batches(device: &Device, from: usize) -> impl Iterator<Item = (Tensor, Tensor)> + '_ {
    (from..).map(|step| batch(device, step))
}

fn plan(n_epochs: usize, per_epoch: usize, lr: f32) -> Plan {
    let (what, advice) = ("the test".into(), "Be careful".into());
    Plan { what, n_epochs, per_epoch, first_step: 0, schedule: Schedule::constant(lr), log: None, advice }
}

fn bits(network: &Network) -> Vec<u32> {
    network.parameters.values().to_vec().unwrap().into_iter().map(f32::to_bits).collect()
}

/// Two networks that learn from the labels and from each other's outputs (Zhang et al., "Deep Mutual Learning", CVPR 2018);
/// in steps of odd number from the labels alone, and the first network only.
struct Mutual([(Network, Optimizer); 2]);

fn losses([a, b]: [&Network; 2], (x, labels): &(Tensor, Tensor)) -> Result<[Loss; 2]> {
    let [a, b] = [a.forward(x, Mode::Train)?.logits, b.forward(x, Mode::Train)?.logits];
    let of = |own: &Tensor, other: &Tensor| -> Result<Loss> {
        Ok(Loss::single("ce", own.cross_entropy(labels, N_CLASSES)?).and("kd", 0.5, own.kl_div(&other.detach(), 2.0)?))
    };
    Ok([of(&a, &b)?, of(&b, &a)?])
}

impl Objective for Mutual {
    type Batch = (Tensor, Tensor);

    fn trainees(&mut self) -> Vec<Trainee<'_>> {
        self.0.iter_mut().map(|(network, optimizer)| Trainee { parameters: &network.parameters, optimizer }).collect()
    }

    fn loss(&mut self, batch: (Tensor, Tensor), step: Step) -> Result<Loss> {
        let [(a, _), (b, _)] = &self.0;
        let [mut of_a, of_b] = losses([a, b], &batch)?;
        if step.index.is_multiple_of(2) {
            of_a.0.extend(of_b.0);
        }
        Ok(of_a)
    }
}

#[test]
fn two_networks_learn_from_each_other_and_no_gradient_is_stale() {
    for device in [Some(Device::cpu()), common::gpu(false)].into_iter().flatten() {
        // Without momentum a network that nothing reaches stays where it is, but for weight decay.
        let pair = || [new(&device, 1, 0.0), new(&device, 2, 0.0)];
        let mut mutual = Mutual(pair());
        let mut trainer_listens = Silent;
        let mut trainer = Trainer::new(&device, &mut trainer_listens, &NEVER);
        let start = [0, 1].map(|i| bits(&mutual.0[i].0));
        trainer.run(&plan(1, 6, 0.1), batches(&device, 0).take(6), &mut mutual).unwrap();

        // The same by hand: each network by a backward pass of its own.
        let mut by_hand = pair();
        for step in 0..6 {
            let [(a, _), (b, _)] = &by_hand;
            let [of_a, of_b] = losses([a, b], &batch(&device, step)).unwrap();
            let [of_a, of_b] = [of_a, of_b].map(|loss| loss.total().unwrap());
            // Half a step on: nothing reaches the second network, whose gradient is then 0.
            let of_b = if step % 2 == 0 { of_b } else { of_b.scale(0.0).unwrap() };
            for ((network, optimizer), loss) in by_hand.iter_mut().zip([of_a, of_b]) {
                Trainee { parameters: &network.parameters, optimizer }.learn(&loss, 0.1).unwrap();
            }
        }
        for (i, start) in start.iter().enumerate() {
            let (got, expected) = (&mutual.0[i].0, &by_hand[i].0);
            assert_ne!(bits(got), *start, "network {i} was not trained");
            let pairs = got.parameters.values().to_vec().unwrap().into_iter();
            for (got, expected) in pairs.zip(expected.parameters.values().to_vec().unwrap()) {
                assert!((got - expected).abs() <= 1e-6 + 1e-5 * expected.abs(), "network {i}: {got} is not {expected}");
            }
        }
    }
}

/// A classification that keeps what it is told.
struct Kept<'a> {
    inner: CrossEntropy<'a>,
    values: Vec<f32>,
    records: Vec<TermRecord>,
    /// Where it was kept, and the weights there.
    kept: Option<(Step, Vec<f32>)>,
    /// The state of the optimiser there.
    state: (u32, Vec<Vec<f32>>),
}

impl Objective for Kept<'_> {
    type Batch = (Tensor, Tensor);

    fn trainees(&mut self) -> Vec<Trainee<'_>> {
        self.inner.trainees()
    }

    fn loss(&mut self, batch: (Tensor, Tensor), step: Step) -> Result<Loss> {
        let loss = self.inner.loss(batch, step)?;
        self.values.push(loss.0[0].value.item()?);
        let Loss(mut terms) = loss;
        // Twice the same, so that the sum is not one of its terms.
        let again = engram::nn::Term { name: "again", weight: 0.25, value: terms[0].value.clone() };
        terms.push(again);
        Ok(Loss(terms))
    }

    fn record(&mut self, term: TermRecord) {
        self.records.push(term);
    }

    fn keep(&mut self, step: Step, _: &LoopSeconds) -> Result<()> {
        self.state = self.inner.optimizer.state()?;
        self.kept = Some((step, self.inner.network.parameters.values().to_vec()?));
        Ok(())
    }
}

fn kept((network, optimizer): &mut (Network, Option<Optimizer>)) -> Kept<'_> {
    let optimizer = optimizer.take().unwrap();
    Kept {
        inner: CrossEntropy { network, optimizer },
        values: Vec::new(),
        records: Vec::new(),
        kept: None,
        state: (0, Vec::new()),
    }
}

fn subject(device: &Device) -> (Network, Option<Optimizer>) {
    let (network, optimizer) = new(device, 3, 0.9);
    (network, Some(optimizer))
}

/// What is read dozens of steps later is what the loss was, at least twenty points for a curve.
#[test]
fn losses_are_written_down_often_enough_for_a_curve() {
    assert_eq!([1, 19, 40, 199, 1000, 9000].map(|n| Log::for_curve(n).every), [1, 1, 2, 9, 50, 50]);
    for device in [Some(Device::cpu()), common::gpu(false)].into_iter().flatten() {
        for (n_steps, gradient_norms) in [(170, false), (45, true)] {
            let mut subject = subject(&device);
            let mut objective = kept(&mut subject);
            let log = Log { gradient_norms, ..Log::for_curve(n_steps) };
            let plan = Plan { log: Some(log), ..plan(5, n_steps / 5, 0.05) };
            let mut listener = Silent;
            let trained = Trainer::new(&device, &mut listener, &NEVER)
                .run(&plan, batches(&device, 0).take(n_steps), &mut objective)
                .unwrap();
            let Kept { records, values, .. } = objective;
            assert_eq!(values.len(), n_steps);
            assert_eq!(records.len(), 2 * n_steps.div_ceil(log.every));
            assert!(records.len() >= 2 * 20);
            for (i, record) in records.iter().enumerate() {
                let step = i / 2 * log.every;
                let (term, weight) = if i % 2 == 0 { ("cross_entropy", 1.0) } else { ("again", 0.25) };
                assert_eq!((record.step, record.epoch), (step, step / (n_steps / 5)));
                assert_eq!((record.term.as_str(), record.weight, record.value), (term, weight, values[step]));
                assert_eq!(record.gradient_norm.is_some(), gradient_norms);
                if let (1, Some(norm)) = (i % 2, record.gradient_norm) {
                    let whole = records[i - 1].gradient_norm.unwrap();
                    assert!(norm > 0.0 && (norm - 0.25 * whole).abs() <= 1e-6 * whole, "{norm} of {whole}");
                }
            }
            assert_eq!(trained.loss, Some(1.25 * values[n_steps - 1]));
            assert!(trained.seconds.sum() > 0.0);
        }
    }
}

/// Listens, and interrupts after some batches.
struct Interrupt<'a> {
    flag: &'a AtomicBool,
    after: usize,
    heard: Vec<Progress>,
    started: Option<Started>,
}

impl Listener for Interrupt<'_> {
    fn training(&mut self, started: &Started) {
        self.started = Some(started.clone());
    }

    fn progress(&mut self, progress: &Progress) {
        self.heard.push(*progress);
        self.flag.fetch_or(progress.batch == self.after, Relaxed);
    }
}

#[test]
fn an_interrupted_training_goes_on_from_where_it_was_kept() {
    let device = Device::cpu();
    let schedule = Schedule { lr: 0.1, fall: Fall::Cosine, warm_up: WarmUp::Epochs(1.5) };
    let plan = Plan { schedule, log: Some(Log::for_curve(24)), ..plan(3, 8, 0.0) };
    let (mut whole, mut pieces) = (subject(&device), subject(&device));
    let mut objective = kept(&mut whole);
    let flag = AtomicBool::new(false);
    let mut listener = Interrupt { flag: &flag, after: 0, heard: Vec::new(), started: None };
    Trainer::new(&device, &mut listener, &flag).run(&plan, batches(&device, 0).take(24), &mut objective).unwrap();
    let records = objective.records;
    assert_eq!(listener.started, Some(Started { what: "the test".into(), n_steps: 24 }));
    assert_eq!(listener.heard.iter().map(|p| (p.epoch, p.batch)).collect::<Vec<_>>()[7..9], [(0, 8), (1, 9)]);

    let mut first = kept(&mut pieces);
    listener.after = 11;
    let result = Trainer::new(&device, &mut listener, &flag).run(&plan, batches(&device, 0).take(24), &mut first);
    assert!(matches!(result, Err(Error::Interrupted)));
    let ((step, weights), (n_steps, state)) = (first.kept.unwrap(), first.state);
    assert_eq!((step.index, step.epoch(), step.batch(), step.progress()), (11, 1, 3, 11.0 / 24.0));
    let mut all = first.records;
    assert_eq!(all.len(), 2 * 11, "what was written down is kept too");

    let mut rest = subject(&device);
    rest.0.parameters.values().write(&weights).unwrap();
    rest.1.as_mut().unwrap().restore(n_steps, &state).unwrap();
    let mut second = kept(&mut rest);
    let plan = Plan { first_step: step.index, ..plan };
    let mut silent = Silent;
    Trainer::new(&device, &mut silent, &NEVER).run(&plan, batches(&device, 11).take(13), &mut second).unwrap();
    all.extend(second.records);
    assert_eq!(all, records);
    assert_eq!(bits(&rest.0), bits(&whole.0));
}

/// So steep a loss that a single step breaks the weights.
struct Steep<'a>(CrossEntropy<'a>);

impl Objective for Steep<'_> {
    type Batch = (Tensor, Tensor);

    fn trainees(&mut self) -> Vec<Trainee<'_>> {
        self.0.trainees()
    }

    fn loss(&mut self, batch: (Tensor, Tensor), step: Step) -> Result<Loss> {
        let mut loss = self.0.loss(batch, step)?;
        loss.0[0].weight = 1e6;
        Ok(loss)
    }
}

/// One message, with what was trained and what to do, wherever the numbers went.
#[test]
fn divergence_is_noticed_where_losses_are_read_and_after_the_last_step() {
    for device in [Some(Device::cpu()), common::gpu(false)].into_iter().flatten() {
        let message = |n_steps: usize, log: Option<Log>| {
            let (network, optimizer) = new(&device, 1, 0.0);
            let mut objective = Steep(CrossEntropy { network: &network, optimizer });
            let plan = Plan { log, ..plan(1, n_steps, 3e38) };
            let mut listener = Silent;
            let batches = batches(&device, 0).take(n_steps);
            let trained = Trainer::new(&device, &mut listener, &NEVER).run(&plan, batches, &mut objective);
            let error = trained.unwrap_err();
            assert!(matches!(error, Error::Training(_)), "{error}");
            error.to_string()
        };
        let every_step = Some(Log { every: 1, gradient_norms: false });
        for (n_steps, log, wanted) in [
            (3, every_step, "epoch 1, step 2"),
            (200, None, "epoch 1, step 51"),
            (3, None, "epoch 1, step 3"),
            (1, None, "the weights"),
        ] {
            let text = message(n_steps, log);
            assert!(text.starts_with("training diverged (the test): the "), "{text}");
            assert!(text.contains(wanted) && text.ends_with(". Be careful"), "{n_steps} steps: {text}");
        }
    }
}

/// A loss without terms skips the step, and nothing else.
#[test]
fn a_step_may_be_skipped() {
    struct Never(Network, Optimizer, usize);
    impl Objective for Never {
        type Batch = ();
        fn trainees(&mut self) -> Vec<Trainee<'_>> {
            vec![Trainee { parameters: &self.0.parameters, optimizer: &mut self.1 }]
        }
        fn loss(&mut self, (): (), _: Step) -> Result<Loss> {
            Ok(Loss(Vec::new()))
        }
        fn after_step(&mut self) -> Result<()> {
            self.2 += 1;
            Ok(())
        }
    }
    let device = Device::cpu();
    let (network, optimizer) = new(&device, 1, 0.9);
    let before = bits(&network);
    let mut never = Never(network, optimizer, 0);
    let mut listener = Silent;
    let plan = Plan { log: Some(Log::for_curve(60)), ..plan(1, 60, 0.1) };
    let trained = Trainer::new(&device, &mut listener, &NEVER).run(&plan, [(); 60], &mut never).unwrap();
    assert_eq!((trained.loss, never.2, bits(&never.0) == before), (None, 60, true));
}

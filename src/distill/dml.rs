//! Zhang, Xiang, Hospedales, Lu: "Deep mutual learning", CVPR 2018.

use super::{Answer, Beginning, Build, Companions, Knowledge, SchemeSpec, Settings, TeacherMean, Training};
use super::{combined, seed_along};
use crate::error::{Error, Result};
use crate::models::Network;
use crate::nn::{Loss, Parameters, Term};
use crate::ops::Mode;
use crate::settings::Setting;
use crate::tensor::{Tensor, no_grad};
use crate::training::Step;

const PEERS: Setting =
    Setting::whole("peers", "N", "Networks that teach each other, the student among them; 1 learns from labels alone")
        .between(1, 32)
        .usually("2");

const SEQUENTIAL: Setting = Setting::switch(
    "sequential",
    "Whether peers take their steps one after the other, as in the paper: each hears what those before it have just learned",
)
.usually("false");

pub const SPEC: SchemeSpec = SchemeSpec {
    name: "dml",
    summary: "peers that are trained at once and match each other's outputs: mutual learning",
    formula: "Σ_i [ce·CE(z_i, y) + kd/(K−1)·Σ_{j≠i} T²·KL(softmax(z_j/T) ‖ softmax(z_i/T))], z_j without gradient",
    knowledge: Knowledge::Response,
    training: Training::Online,
    paper: "Zhang et al., CVPR 2018",
    deviations: &[
        "all peers are updated at once, by one backward pass; --sequential true is the paper's order, on one batch, where the \
         authors' code takes a new batch for each peer",
        "the mean over the other peers, as in section 3.3 of the paper; the authors' code sums over them",
    ],
    weights: &[("ce", 1.0), ("kd", 1.0)],
    temperature: 1.0,
    options: &[PEERS, SEQUENTIAL],
    build: Build::Together(|beginning: &Beginning| {
        let Beginning { device, student, settings, seed } = *beginning;
        let n_others = settings.own.get::<usize>("peers") - 1;
        let others = (0..n_others).map(|i| student.fresh(device, seed_along(seed, i))).collect::<Result<_>>()?;
        Ok(Box::new(Peers::new(student, others, settings.clone())?))
    }),
    ..SchemeSpec::BASE
};

/// The other networks of mutual learning, of any architectures.
pub struct Peers {
    others: Vec<Network>,
    settings: Settings,
    answers: Vec<Answer>,
}

impl Peers {
    /// A student's peers. The settings are those of the row `dml`.
    ///
    /// # Errors
    /// [`Error::Usage`] if a peer has other classes or takes other images than the student.
    pub fn new(student: &Network, others: Vec<Network>, settings: Settings) -> Result<Peers> {
        for (i, peer) in others.iter().enumerate() {
            let (number, n, of_student) = (i + 2, peer.n_outputs, student.n_outputs);
            if n != of_student {
                let message = format!("peer {number}, '{}', has {n} classes and the student {of_student}", peer.name);
                return Err(Error::usage(message));
            }
            if peer.input != student.input {
                let (a, b) = (peer.input, student.input);
                return Err(Error::usage(format!("peer {number} takes images of {a:?} and the student of {b:?}")));
            }
        }
        let answer = |name: String, networks: &[&Network]| Answer {
            name,
            n_parameters: networks.iter().map(|network| network.parameters.n_parameters()).sum(),
            macs: networks.iter().map(|network| network.macs).sum(),
        };
        let mut answers: Vec<Answer> =
            others.iter().enumerate().map(|(i, peer)| answer(format!("peer {}", i + 2), &[peer])).collect();
        if !others.is_empty() {
            let all: Vec<&Network> = std::iter::once(student).chain(&others).collect();
            answers.push(answer("all peers".into(), &all));
        }
        Ok(Peers { others, settings, answers })
    }

    fn logits(&self, student: &Network, x: &Tensor, mode: Mode) -> Result<Vec<Tensor>> {
        let all = std::iter::once(student).chain(&self.others);
        all.map(|network| Ok(network.forward(x, mode)?.logits)).collect()
    }

    /// Of the peer of this number, which learns from all others.
    fn terms(&self, i: usize, logits: &[Tensor], labels: &Tensor) -> Result<Vec<Term>> {
        let (own, temperature) = (&logits[i], self.settings.temperature);
        let mut terms = Vec::new();
        let (ce, kd) = (self.settings.weight("ce"), self.settings.weight("kd"));
        if ce != 0.0 || logits.len() == 1 {
            terms.push(Term { name: "ce", weight: ce, value: own.cross_entropy(labels, own.shape().rows_cols().1)? });
        }
        for (_, other) in logits.iter().enumerate().filter(|(j, _)| *j != i && kd != 0.0) {
            let value = own.kl_div(&other.detach(), temperature)?;
            terms.push(Term { name: "kd", weight: kd / (logits.len() - 1) as f32, value });
        }
        Ok(terms)
    }
}

impl Companions for Peers {
    fn loss(&self, student: &Network, x: &Tensor, labels: &Tensor, _step: Step) -> Result<Loss> {
        let logits = self.logits(student, x, Mode::Train)?;
        let mut terms = Vec::new();
        for i in 0..logits.len() {
            terms.extend(self.terms(i, &logits, labels)?);
        }
        Ok(Loss(terms))
    }

    fn along(&self) -> Vec<&Parameters> {
        self.others.iter().map(|peer| &peer.parameters).collect()
    }

    fn answers(&self) -> Vec<Answer> {
        self.answers.clone()
    }

    fn answer(&self, student: &Network, x: &Tensor) -> Result<Vec<Tensor>> {
        if self.others.is_empty() {
            return Ok(Vec::new());
        }
        no_grad(|| {
            let mut all = self.logits(student, x, Mode::Eval)?;
            let together = combined(&all, TeacherMean::Probabilities, 1.0)?;
            all.push(together);
            Ok(all.split_off(1))
        })
    }

    fn in_turns(&self) -> bool {
        self.settings.own.get("sequential")
    }

    fn turn(&self, i: usize, student: &Network, x: &Tensor, labels: &Tensor, _step: Step) -> Result<Loss> {
        let all = std::iter::once(student).chain(&self.others).enumerate();
        let said = |(j, network): (usize, &Network)| match j == i {
            true => Ok(network.forward(x, Mode::Train)?.logits),
            // Its running statistics move when it is its own turn.
            false => no_grad(|| Ok(network.forward(x, Mode::Frozen)?.logits)),
        };
        let logits = all.map(said).collect::<Result<Vec<_>>>()?;
        Ok(Loss(self.terms(i, &logits, labels)?))
    }
}

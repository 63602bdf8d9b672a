//! A network as a list of layers, in a file of JSON that a person can write.

use super::{ModelSpec, Options};
use crate::error::{Error, Result};
use crate::nn::{Builder, LayerInfo, LayerSpec, OutputKind};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The format of such a file that this version writes and reads.
const FORMAT: u32 = 1;
const MOST_SIDE: usize = 1 << 14;

/// The layers of a network, from the images to an output per class.
///
/// ```
/// use engram::models::{self, LayerList, Network, Options};
/// use engram::Device;
/// let cnn = LayerList::of_model(models::spec("cnn")?, [1, 28, 28], &Options::default())?;
/// let text = cnn.to_text(); // {"format": 1, "input": [1, 28, 28], "layers": [{"kind": "conv", …
/// let read = LayerList::from_json(&serde_json::from_str(&text).unwrap(), "cnn.json")?;
/// assert_eq!(read, cnn);
/// let network = Network::from_list("cnn.json", &read, [1, 28, 28], 10, &Device::cpu(), 1)?;
/// let same = Network::new("cnn", [1, 28, 28], 10, &Device::cpu(), 1)?;
/// assert_eq!(network.to_safetensors()?, same.to_safetensors()?);
/// # Ok::<(), engram::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerList {
    format: u32,
    /// Channels, height and width of the images.
    pub input: [usize; 3],
    /// In order. The last is linear, or a convolution and a resize to the images, and its outputs are `None`: as many as there
    /// are classes.
    pub layers: Vec<LayerSpec>,
}

/// A network cut in two behind a stage.
#[derive(Clone, Debug)]
pub struct Cut {
    /// `stage1`, `stage2`, …
    pub stage: String,
    /// Channels, height and width of what leaves the stage.
    pub shape: [usize; 3],
    /// Multiply–accumulates of one image up to there.
    pub macs: u64,
    /// Numbers that are learnt up to there.
    pub n_parameters: usize,
    /// What comes behind it: a network whose images are what leaves the stage.
    pub rest: LayerList,
}

/// A file as far as it can be read without looking at layers, so that a message can say which layer is wrong.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Outline {
    format: u32,
    input: [usize; 3],
    layers: Vec<Value>,
}

impl LayerList {
    /// Those that a builder collected.
    pub(super) fn of(input: [usize; 3], builder: &Builder) -> LayerList {
        let mut layers = builder.specs.clone();
        if let Some(outputs) = LayerSpec::classifier(&layers).and_then(|(at, _)| layers[at].outputs_mut()) {
            *outputs = None;
        }
        LayerList { format: FORMAT, input, layers }
    }

    /// A list of these layers, which are checked where a network is made of them.
    pub fn new(input: [usize; 3], layers: Vec<LayerSpec>) -> LayerList {
        LayerList { format: FORMAT, input, layers }
    }

    /// Cuts the network behind a stage.
    ///
    /// ```
    /// use engram::models::{self, LayerList, Options};
    /// let resnet = LayerList::of_model(models::spec("resnet32")?, [3, 32, 32], &Options::default())?;
    /// let cut = resnet.cut("resnet32", "stage2")?;
    /// assert_eq!((cut.shape, cut.rest.input), ([32, 16, 16], [32, 16, 16]));
    /// # Ok::<(), engram::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Usage`] if there is no such stage, or what comes behind it is no network by itself: without a feature, or with a
    /// shortcut from before. `name` is what messages call the network.
    pub fn cut(&self, name: &str, stage: &str) -> Result<Cut> {
        let ends: Vec<usize> = (0..self.layers.len()).filter(|&i| self.layers[i] == LayerSpec::Stage {}).collect();
        let n = stage.strip_prefix("stage").and_then(|n| n.parse::<usize>().ok());
        let Some(&end) = n.and_then(|n| ends.get(n.checked_sub(1)?)) else {
            let known: Vec<String> = (1..=ends.len()).map(|i| format!("stage{i}")).collect();
            let known = if known.is_empty() { "no stages".into() } else { known.join(", ") };
            return Err(Error::usage(format!("'{name}' has no '{stage}' to branch at: there are {known}")));
        };
        let mut first = Builder::new(self.input);
        self.layers[..=end].iter().for_each(|layer| first.push(layer.clone()));
        if let Some(why) = first.refusal {
            return Err(Error::usage(format!("{name}: {why}")));
        }
        let rest = LayerList::new(first.shape, self.layers[end + 1..].to_vec());
        if let Err(why) = rest.built(&format!("'{name}' behind its '{stage}'"), first.shape, 1) {
            return Err(Error::usage(format!("{why}; choose an earlier stage")));
        }
        Ok(Cut {
            stage: stage.into(),
            shape: first.shape,
            macs: first.table.iter().map(|layer| layer.macs).sum(),
            n_parameters: first.table.iter().map(|layer| layer.n_parameters).sum(),
            rest,
        })
    }

    /// Those of a row of the table.
    ///
    /// # Errors
    /// If the images are too small for it, or the options mean nothing.
    pub fn of_model(model: &ModelSpec, input: [usize; 3], options: &Options) -> Result<LayerList> {
        Ok(LayerList::of(input, &model.built(input, 1, options)?))
    }

    /// From the content of a file; `name` is what messages call it.
    ///
    /// # Errors
    /// [`Error::Usage`] if it is no list of layers, or they do not fit one another: the message says which layer, and why.
    pub fn from_json(value: &Value, name: &str) -> Result<LayerList> {
        let refuse = |why: String| Error::usage(format!("{name}: {why}"));
        let outline = Outline::deserialize(value).map_err(|e| {
            let why = shown(&e.to_string());
            refuse(format!("no list of layers: {why}; `engram models show cnn --json` prints one to start from"))
        })?;
        if outline.format != FORMAT {
            return Err(refuse(format!("format {}: this engram reads format {FORMAT}", outline.format)));
        }
        let mut layers = Vec::new();
        for (i, layer) in outline.layers.iter().enumerate() {
            let label = layer.get("name").or(layer.get("kind")).and_then(Value::as_str);
            let label = label.map_or(String::new(), |label| format!(" ({})", shown(label)));
            let layer = LayerSpec::deserialize(layer);
            let why = |e: serde_json::Error| refuse(format!("layer {}{label}: {}", i + 1, shown(&e.to_string())));
            layers.push(layer.map_err(why)?);
        }
        let list = LayerList { format: FORMAT, input: outline.input, layers };
        list.built(name, list.input, 1)?;
        Ok(list)
    }

    /// As a file has it, a layer a line.
    pub fn to_text(&self) -> String {
        let layers: Vec<String> = self.layers.iter().map(|layer| format!("    {}", spaced(layer))).collect();
        let (format, input, layers) = (self.format, spaced(&self.input), layers.join(",\n"));
        format!("{{\n  \"format\": {format},\n  \"input\": {input},\n  \"layers\": [\n{layers}\n  ]\n}}\n")
    }

    /// The layers for images of this size and so many classes.
    pub(super) fn built(&self, name: &str, input: [usize; 3], n_outputs: usize) -> Result<Builder> {
        let refuse = |why: String| Err(Error::usage(format!("{name}: {why}")));
        if self.input != input {
            let show = |[c, h, w]: [usize; 3]| format!("{c}×{h}×{w}");
            return refuse(format!(
                "it is for images of {}, and these have {}: change \"input\" and what follows from it, or print the list for \
                 such images with `engram models show NAME --input CxHxW --json`",
                show(self.input),
                show(input)
            ));
        }
        if !input.iter().all(|side| (1..=MOST_SIDE).contains(side)) {
            return refuse(format!("\"input\" is {input:?}: channels, height and width from 1 to {MOST_SIDE}"));
        }
        let layers = self.layers_for(n_outputs).map_err(|why| Error::usage(format!("{name}: {why}")))?;
        let mut builder = Builder::new(input);
        layers.into_iter().for_each(|layer| builder.push(layer));
        builder.finish(n_outputs);
        match builder.refusal.take() {
            Some(why) => refuse(why),
            None => Ok(builder),
        }
    }

    /// The layers, the last of which has so many outputs.
    fn layers_for(&self, n_outputs: usize) -> std::result::Result<Vec<LayerSpec>, String> {
        let mut layers = self.layers.clone();
        if let Some((at, _)) = LayerSpec::classifier(&layers)
            && let Some(outputs) = layers[at].outputs_mut()
            && let Some(before) = outputs.replace(n_outputs)
        {
            let (n, layer) = (at + 1, shown(layers[at].label()));
            return Err(format!(
                "layer {n} ({layer}): \"out\" is {before}, but the last layer has an output for each class of the data: leave \
                 \"out\" out"
            ));
        }
        Ok(layers)
    }

    /// What it is for. The last layer says: a list that does not fit is refused where a network is made of it.
    pub fn kind(&self) -> OutputKind {
        LayerSpec::classifier(&self.layers).map_or(OutputKind::Classes, |(_, kind)| kind)
    }

    /// One line per layer, without building the network; `name` is what messages call it.
    ///
    /// # Errors
    /// If the images are of another size, or a layer does not fit.
    pub fn table(&self, name: &str, input: [usize; 3], n_outputs: usize) -> Result<Vec<LayerInfo>> {
        Ok(self.built(name, input, n_outputs)?.table)
    }
}

/// A text from a file as a message shows it: not all of a long one, and nothing that would move the cursor.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

/// Compact JSON with spaces between its parts. Names of layers have no commas and colons.
fn spaced<T: Serialize>(value: &T) -> String {
    let json = serde_json::to_string(value).expect("bug: a layer that is no JSON");
    json.replace("\":", "\": ").replace(',', ", ")
}

//! A network as Python: residual blocks become classes, the rest a class of its own.

use super::super::Network;
use super::steps::{Add, Step, Value, steps};
use crate::error::{Error, Result};
use crate::nn::LayerSpec;
use std::collections::{BTreeMap, BTreeSet};

/// What a module of PyTorch or a dictionary of modules has itself: no layer can be called so.
const TAKEN: &str = "T_destination add_module apply bfloat16 buffers call_super_init children clear compile cpu cuda double \
    dump_patches eval extra_repr float forward get_buffer get_extra_state get_parameter get_submodule half ipu items keys \
    load_state_dict modules mtia named_buffers named_children named_modules named_parameters parameters pop \
    register_backward_hook register_buffer register_forward_hook register_forward_pre_hook register_full_backward_hook \
    register_full_backward_pre_hook register_load_state_dict_post_hook register_load_state_dict_pre_hook register_module \
    register_parameter register_state_dict_post_hook register_state_dict_pre_hook requires_grad_ set_extra_state \
    set_submodule share_memory state_dict to to_empty train training type update values xpu zero_grad";

/// Words that no attribute can be called in Python.
const KEYWORDS: &str = "False None True and as assert async await break class continue def del elif else except finally for from \
    global if import in is lambda nonlocal not or pass raise return try while with yield";

/// Modules by their names, a dot between levels.
#[derive(Default)]
struct Tree {
    module: Option<String>,
    parts: Vec<(String, Tree)>,
}

impl Tree {
    fn insert(&mut self, path: &str, module: String) -> Result<()> {
        let refuse = |why: &str| {
            Err(Error::usage(format!(
                "layer '{path}': {why}, so PyTorch cannot have it; give it another name in the list"
            )))
        };
        let mut tree = self;
        for part in path.split('.') {
            if part.is_empty() || part.starts_with('_') {
                return refuse("a part of its name is empty or begins with an underscore");
            }
            if TAKEN.split_whitespace().any(|taken| taken == part) {
                return refuse("every module of PyTorch has something of this name");
            }
            if tree.module.is_some() {
                return refuse("another layer has the first part of its name");
            }
            let at = tree.parts.iter().position(|(name, _)| name == part).unwrap_or_else(|| {
                tree.parts.push((part.into(), Tree::default()));
                tree.parts.len() - 1
            });
            tree = &mut tree.parts[at].1;
        }
        if !tree.parts.is_empty() || tree.module.is_some() {
            return refuse("its name is the first part of another layer's");
        }
        tree.module = Some(module);
        Ok(())
    }

    fn find(&self, path: &str) -> Option<&Tree> {
        path.split('.').try_fold(self, |tree, part| tree.parts.iter().find(|(name, _)| name == part).map(|(_, t)| t))
    }

    /// Whether its parts are called 0, 1, 2, …
    fn is_row(&self) -> bool {
        self.parts.iter().enumerate().all(|(i, (name, _))| *name == i.to_string())
    }

    /// An expression that makes it.
    fn made(&self, indent: usize) -> String {
        if let Some(module) = &self.module {
            return module.clone();
        }
        let (inner, outer) = (" ".repeat(indent + 4), " ".repeat(indent));
        let part = |(name, tree): &(String, Tree)| {
            let made = tree.made(indent + 4);
            if self.is_row() { format!("{inner}{made},\n") } else { format!("{inner}\"{name}\": {made},\n") }
        };
        let parts: String = self.parts.iter().map(part).collect();
        if self.is_row() {
            format!("nn.Sequential(\n{parts}{outer})")
        } else {
            format!("nn.ModuleDict({{\n{parts}{outer}}})")
        }
    }

    /// The lines of `__init__`.
    fn lines(&self) -> String {
        let line = |(name, tree): &(String, Tree)| match is_attribute(name) {
            true => format!("        self.{name} = {}\n", tree.made(8)),
            false => format!("        self.add_module(\"{name}\", {})\n", tree.made(8)),
        };
        self.parts.iter().map(line).collect()
    }

    /// An expression that finds a part.
    fn access(&self, path: &str) -> String {
        let mut text = String::from("self");
        let mut tree = self;
        for (depth, part) in path.split('.').enumerate() {
            text += &match depth {
                0 if is_attribute(part) => format!(".{part}"),
                0 => format!(".get_submodule(\"{part}\")"),
                _ if tree.is_row() => format!("[{part}]"),
                _ => format!("[\"{part}\"]"),
            };
            tree = tree.find(part).expect("bug: a module that was not declared");
        }
        text
    }
}

fn is_attribute(name: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphabetic();
    name.starts_with(letter)
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !KEYWORDS.split_whitespace().any(|keyword| keyword == name)
}

/// Numbers as a block's class calls them, so that blocks of other widths can be of one class.
#[derive(Clone)]
struct Symbols {
    inputs: usize,
    outputs: usize,
    stride: usize,
    /// The channels that arrive now, and whether it is what entered the block.
    now: (String, bool),
    kept: BTreeMap<usize, (String, bool)>,
}

/// Python of a row of layers.
#[derive(Default)]
struct Body {
    tree: Tree,
    lines: Vec<String>,
    /// What x is now, not written down yet.
    x: String,
    symbols: Option<Symbols>,
}

impl Body {
    fn new(symbols: Option<Symbols>) -> Body {
        Body { x: "x".into(), symbols, ..Body::default() }
    }

    fn call(&mut self, module: &str) {
        self.x = format!("{module}({})", self.x);
    }

    fn write(&mut self) {
        if self.x != "x" {
            self.lines.push(format!("x = {}", self.x));
            self.x = "x".into();
        }
    }

    fn relu(&mut self) {
        self.call("F.relu");
        self.write();
    }

    /// The module of a layer that has parameters, and its name.
    fn declare(&mut self, step: &Step) -> Option<(String, String)> {
        let literal = step.arrives.shape[0].to_string();
        match &step.spec {
            LayerSpec::Conv { name, outputs, kernel, stride, padding, dilation, bias, .. } => {
                let outputs = outputs.unwrap_or(step.leaves.shape[0]);
                let (mut from, mut to, mut by) = (literal, outputs.to_string(), stride.to_string());
                if let Some(symbols) = &mut self.symbols {
                    from = symbols.now.0.clone();
                    if outputs == symbols.outputs {
                        to = "outputs".into();
                    }
                    if symbols.now.1 && *stride == symbols.stride {
                        by = "stride".into();
                    }
                    symbols.now = (to.clone(), false);
                }
                let mut module = format!("nn.Conv2d({from}, {to}, {kernel}");
                for (word, value, usual) in [
                    ("stride", by, "1"),
                    ("padding", padding.to_string(), "0"),
                    ("dilation", dilation.to_string(), "1"),
                ] {
                    if value != usual {
                        module += &format!(", {word}={value}");
                    }
                }
                module += if *bias { ")" } else { ", bias=False)" };
                Some((name.clone(), module))
            }
            LayerSpec::BatchNorm { name, epsilon, .. } => {
                let channels = self.symbols.as_ref().map_or(literal, |symbols| symbols.now.0.clone());
                let axes = if step.arrives.is_map { "2d" } else { "1d" };
                let eps = if *epsilon == 1e-5 { String::new() } else { format!(", eps={epsilon}") };
                Some((name.clone(), format!("nn.BatchNorm{axes}({channels}{eps})")))
            }
            LayerSpec::Linear { name, .. } => {
                let inputs: usize = step.arrives.shape.iter().product();
                Some((name.clone(), format!("nn.Linear({inputs}, {})", step.leaves.shape[0])))
            }
            &LayerSpec::Keep { slot } => {
                if let Some(symbols) = &mut self.symbols {
                    symbols.kept.insert(slot, symbols.now.clone());
                }
                None
            }
            LayerSpec::Resume { slot } => {
                if let Some(symbols) = &mut self.symbols {
                    symbols.now = symbols.kept[slot].clone();
                }
                None
            }
            _ => {
                if let Some(symbols) = &mut self.symbols {
                    symbols.now.1 = false;
                }
                None
            }
        }
    }

    /// A layer's part of `forward`; `own` is its name here.
    fn apply(&mut self, step: &Step, own: &str, any_subsampled: bool) {
        match &step.spec {
            LayerSpec::Conv { .. } => self.call(&self.tree.access(own)),
            LayerSpec::BatchNorm { relu, .. } => {
                self.call(&self.tree.access(own));
                if let Some((slot, _)) = step.add {
                    match any_subsampled {
                        true => {
                            self.write();
                            self.x = format!("x + shortcut(kept{slot}, x)");
                        }
                        false => self.x += &format!(" + kept{slot}"),
                    }
                }
                match relu {
                    true => self.relu(),
                    false if step.add.is_some() => self.write(),
                    false => {}
                }
            }
            LayerSpec::Relu {} => self.relu(),
            LayerSpec::MaxPool { size, stride, padding } => {
                let stride = stride.map_or(String::new(), |stride| format!(", stride={stride}"));
                let padding = if *padding > 0 { format!(", padding={padding}") } else { String::new() };
                self.x = format!("F.max_pool2d({}, {size}{stride}{padding})", self.x);
                self.write();
            }
            LayerSpec::GlobalAvgPool {} => self.x += ".mean((2, 3))",
            LayerSpec::Linear { .. } => {
                if step.arrives.is_map {
                    self.x += ".flatten(1)";
                }
                self.call(&self.tree.access(own));
            }
            LayerSpec::Keep { slot } => {
                self.write();
                self.lines.push(format!("kept{slot} = x"));
            }
            LayerSpec::Resume { slot } => {
                self.write();
                self.x = format!("kept{slot}");
            }
            LayerSpec::Add { slot } => {
                self.x += &format!(" + kept{slot}");
                self.write();
            }
            LayerSpec::Feature {} => {
                if step.arrives.is_map {
                    self.x += ".flatten(1)";
                }
                self.write();
                self.lines.push("features = x".into());
            }
            LayerSpec::Name { .. } | LayerSpec::Stage {} => {}
            LayerSpec::ImagePool {}
            | LayerSpec::Concat { .. }
            | LayerSpec::Resize { .. }
            | LayerSpec::FeatureMap {}
            | LayerSpec::Mean { .. } => {
                unreachable!("bug: such layers are refused before")
            }
        }
    }

    fn class(&mut self, name: &str, parameters: &str, result: &str) -> String {
        self.write();
        let (own, lines) = (self.tree.lines(), &self.lines);
        let lines: String = lines.iter().map(|line| format!("        {line}\n")).collect();
        format!(
            "class {name}(nn.Module):\n    def __init__(self{parameters}):\n        super().__init__()\n{own}\n    \
             def forward(self, x):\n{lines}        return {result}\n"
        )
    }
}

/// The layers of one block, whose names all begin with `prefix` and a dot.
struct Block<'a> {
    prefix: &'a str,
    /// Where it begins and ends among the steps.
    from: usize,
    to: usize,
}

fn name_of(step: &Step) -> Option<&str> {
    match &step.spec {
        LayerSpec::Conv { name, .. } | LayerSpec::BatchNorm { name, .. } | LayerSpec::Linear { name, .. } => Some(name),
        _ => None,
    }
}

/// The slots that a step reads and fills.
fn slots(step: &Step) -> (Option<usize>, Option<usize>) {
    match step.spec {
        LayerSpec::Keep { slot } => (None, Some(slot)),
        LayerSpec::Resume { slot } | LayerSpec::Add { slot } => (Some(slot), None),
        _ => (step.add.map(|(slot, _)| slot), None),
    }
}

/// The block that ends before the mark at `to`, if what has its name stands together and keeps its slots to itself.
fn block_before<'a>(steps: &'a [Step], to: usize) -> Option<Block<'a>> {
    let LayerSpec::Name { name: prefix } = &steps[to].spec else { return None };
    let inside = |step: &Step| match name_of(step) {
        Some(name) => name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('.')),
        None => !matches!(step.spec, LayerSpec::Name { .. } | LayerSpec::Stage {} | LayerSpec::Feature {}),
    };
    let n = steps[..to].iter().rev().take_while(|step| inside(step)).count();
    let begins = |step: &Step| name_of(step).is_some() || matches!(step.spec, LayerSpec::Keep { .. });
    let from = to - n + steps[to - n..to].iter().position(begins)?;
    let block = &steps[from..to];
    let both_maps = steps[from].arrives.is_map && steps[to].leaves.is_map;
    let mut own = BTreeSet::new();
    for (read, filled) in block.iter().map(slots) {
        if read.is_some_and(|slot| !own.contains(&slot)) {
            return None;
        }
        own.extend(filled);
    }
    let used_later = own.iter().any(|slot| {
        let uses = steps[to..].iter().map(slots);
        uses.filter(|(read, filled)| [read, filled].contains(&&Some(*slot))).map(|(read, _)| read.is_some()).next()
            == Some(true)
    });
    let named = block.iter().any(|step| name_of(step).is_some());
    (both_maps && named && !used_later).then_some(Block { prefix, from, to })
}

/// The classes of blocks, each once, and what makes each block.
#[derive(Default)]
struct Classes {
    /// Names by the text with a blank for the name.
    known: Vec<(String, String)>,
}

impl Classes {
    /// A call that makes this block.
    fn instance(&mut self, steps: &[Step], block: &Block, any_subsampled: bool) -> Result<String> {
        let inner = &steps[block.from..block.to];
        let [Value { shape: [inputs, ..], .. }, Value { shape: [outputs, ..], .. }] =
            [inner[0].arrives, inner[inner.len() - 1].leaves];
        let stride = inner.iter().find_map(|step| match step.spec {
            LayerSpec::Conv { stride, .. } => Some(stride),
            _ => None,
        });
        let stride = stride.unwrap_or(1);
        let now = ("inputs".to_string(), true);
        let mut body = Body::new(Some(Symbols { inputs, outputs, stride, now, kept: BTreeMap::new() }));
        let own = |step: &Step| name_of(step).map(|name| name[block.prefix.len() + 1..].to_string());
        for step in inner {
            if let Some((_, module)) = body.declare(step) {
                body.tree.insert(&own(step).unwrap_or_default(), module)?;
            }
        }
        for step in inner {
            body.apply(step, &own(step).unwrap_or_default(), any_subsampled);
        }
        let Some(Symbols { inputs, outputs, stride, .. }) = body.symbols.take() else { return Ok(String::new()) };
        let text = body.class("{}", ", inputs, outputs, stride", "x");
        let at = self.known.iter().position(|(_, known)| *known == text).unwrap_or_else(|| {
            let n = self.known.len();
            self.known.push((if n == 0 { "Block".into() } else { format!("Block{}", n + 1) }, text));
            n
        });
        Ok(format!("{}({inputs}, {outputs}, {stride})", self.known[at].0))
    }

    fn text(&self) -> String {
        self.known.iter().map(|(name, text)| format!("{}\n\n", text.replacen("{}", name, 1))).collect()
    }
}

const SHORTCUT: &str = r#"def shortcut(kept, x):
    """What of `kept` is added to `x`: all, or every other pixel of it, between channels of zeros."""
    if kept.shape == x.shape:
        return kept
    stride = max(-(-kept.shape[2] // x.shape[2]), -(-kept.shape[3] // x.shape[3]))
    more = x.shape[1] - kept.shape[1]
    return F.pad(kept[:, :, ::stride, ::stride], (0, 0, 0, 0, more // 2, more - more // 2))


"#;

/// The class `Network` and those that it needs; it returns features, logits and, if one is asked for, what leaves the stage of this
/// number.
///
/// # Errors
/// If PyTorch can have no layer of a name.
pub(super) fn source(network: &Network, stage: Option<usize>) -> Result<String> {
    let steps = steps(network);
    let any_subsampled = steps.iter().any(|step| matches!(step.add, Some((_, Add::Subsampled { .. }))));
    let blocks: Vec<Block> = (0..steps.len()).filter_map(|i| block_before(&steps, i)).collect();
    let is_stage = |step: &Step| matches!(step.spec, LayerSpec::Stage {});
    let stage_at = stage.and_then(|stage| (0..steps.len()).filter(|&i| is_stage(&steps[i])).nth(stage - 1));
    let mut classes = Classes::default();
    let mut body = Body::new(None);
    let begins = |i: usize| blocks.iter().position(|block| block.from == i);
    let mut i = 0;
    while i < steps.len() {
        if let Some(block) = begins(i).map(|at| &blocks[at]) {
            body.tree.insert(block.prefix, classes.instance(&steps, block, any_subsampled)?)?;
            i = block.to;
        } else if let Some((name, module)) = body.declare(&steps[i]) {
            body.tree.insert(&name, module)?;
        }
        i += 1;
    }
    let mut i = 0;
    while i < steps.len() {
        match begins(i) {
            Some(at) => {
                body.write();
                let holds = |last: &Block| stage_at.is_some_and(|stage| (blocks[at].from..=last.to).contains(&stage));
                let row = row_of_blocks(&body.tree, &blocks[at..]).filter(|(_, last)| !holds(last));
                let (called, last) = row.unwrap_or((blocks[at].prefix, &blocks[at]));
                body.call(&body.tree.access(called));
                body.write();
                i = last.to;
            }
            None => body.apply(&steps[i], name_of(&steps[i]).unwrap_or_default(), any_subsampled),
        }
        if stage_at == Some(i) {
            body.write();
            body.lines.push("stage = x".into());
        }
        i += 1;
    }
    let shortcut = if any_subsampled { SHORTCUT } else { "" };
    Ok(format!(
        "{shortcut}{}{}",
        classes.text(),
        body.class("Network", "", if stage_at.is_some() { "features, x, stage" } else { "features, x" })
    ))
}

/// A row of modules that are the next blocks, one after the other, and the last of them.
fn row_of_blocks<'a, 'b>(tree: &Tree, blocks: &'b [Block<'a>]) -> Option<(&'a str, &'b Block<'a>)> {
    let (row, _) = blocks[0].prefix.rsplit_once('.')?;
    let parts = tree.find(row).filter(|tree| tree.is_row())?.parts.len();
    let own = blocks.get(..parts)?;
    let in_order = own.iter().enumerate().all(|(i, block)| block.prefix == format!("{row}.{i}"));
    // Nothing but marks stands between them.
    let together = own.windows(2).all(|pair| pair[0].to + 1 == pair[1].from);
    (in_order && together).then(|| (row, &own[parts - 1]))
}

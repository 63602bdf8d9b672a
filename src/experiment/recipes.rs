//! Defaults that depend on the data set.

use crate::continual::MethodSpec;

/// Hyper-parameters that suit a data set.
pub(super) struct Recipe {
    dataset: &'static str,
    /// Recipes of methods that see all data at once differ.
    sees_everything: bool,
    pub memory: usize,
    pub epochs: usize,
    pub batch_size: usize,
    pub weight_decay: f32,
}

const RECIPES: &[Recipe] = &[
    Recipe { dataset: "glyphs", sees_everything: false, memory: 500, epochs: 4, batch_size: 32, weight_decay: 1e-4 },
    Recipe { dataset: "glyphs", sees_everything: true, memory: 0, epochs: 5, batch_size: 64, weight_decay: 1e-4 },
    Recipe { dataset: "shapes", sees_everything: false, memory: 1000, epochs: 6, batch_size: 32, weight_decay: 1e-4 },
    Recipe { dataset: "shapes", sees_everything: true, memory: 0, epochs: 8, batch_size: 64, weight_decay: 1e-4 },
    Recipe { dataset: "mnist", sees_everything: false, memory: 2000, epochs: 4, batch_size: 64, weight_decay: 1e-4 },
    Recipe { dataset: "mnist", sees_everything: true, memory: 0, epochs: 3, batch_size: 64, weight_decay: 1e-4 },
    Recipe {
        dataset: "fashion-mnist",
        sees_everything: false,
        memory: 2000,
        epochs: 4,
        batch_size: 64,
        weight_decay: 1e-4,
    },
    Recipe {
        dataset: "fashion-mnist",
        sees_everything: true,
        memory: 0,
        epochs: 5,
        batch_size: 64,
        weight_decay: 1e-4,
    },
    Recipe {
        dataset: "cifar-10",
        sees_everything: false,
        memory: 2000,
        epochs: 10,
        batch_size: 64,
        weight_decay: 1e-4,
    },
    Recipe { dataset: "cifar-10", sees_everything: true, memory: 0, epochs: 10, batch_size: 64, weight_decay: 1e-4 },
    Recipe {
        dataset: "cifar-100",
        sees_everything: false,
        memory: 2000,
        epochs: 10,
        batch_size: 64,
        weight_decay: 1e-4,
    },
    Recipe { dataset: "cifar-100", sees_everything: true, memory: 0, epochs: 10, batch_size: 64, weight_decay: 1e-4 },
    Recipe { dataset: "folder", sees_everything: false, memory: 500, epochs: 10, batch_size: 32, weight_decay: 1e-4 },
    Recipe { dataset: "folder", sees_everything: true, memory: 0, epochs: 20, batch_size: 32, weight_decay: 1e-4 },
];

/// The defaults per data set as text, for `--help`.
pub fn recipes_text() -> String {
    let mut text = String::from("Defaults that depend on the data set:\n");
    for recipe in RECIPES {
        let which = if recipe.sees_everything { "joint" } else { "others" };
        text += &format!(
            "  {:<13} {which:<7} --epochs {} --batch-size {} --weight-decay {}",
            recipe.dataset, recipe.epochs, recipe.batch_size, recipe.weight_decay
        );
        if recipe.memory > 0 {
            text += &format!(" --memory {}", recipe.memory);
        }
        text.push('\n');
    }
    text
}

/// The row for a data set and a method.
pub(super) fn recipe(dataset: &str, method: &MethodSpec) -> &'static Recipe {
    RECIPES
        .iter()
        .find(|recipe| recipe.dataset == dataset && recipe.sees_everything == method.sees_everything)
        .expect("bug: a data set without a recipe")
}

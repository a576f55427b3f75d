//! The demo models that ship with the program, by name.

use std::path::{Path, PathBuf};

/// A shipped model: its folder, and the folder of the head that its name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shipped {
    /// The model, or the trunk of a head.
    pub folder: PathBuf,
    /// The head.
    pub head: Option<PathBuf>,
}

/// Names, folders and heads.
const SHIPPED: [(&str, &str, Option<&str>); 7] = [
    ("storyteller", "storyteller", None),
    ("reader", "reader", None),
    ("sentiment", "reader", Some("sentiment")),
    ("entities", "reader", Some("entities")),
    ("answers", "reader", Some("answers")),
    ("translator", "translator", None),
    ("summarizer", "summarizer", None),
];

/// The names of all shipped models.
pub fn shipped_names() -> impl Iterator<Item = &'static str> {
    SHIPPED.iter().map(|(name, ..)| *name)
}

/// The shipped model of this name. Looked for in `TILEWRIGHT_MODELS`, beside the program
/// (`models` or `assets/models`), and in the source folder that the program was built from.
pub fn shipped(name: &str) -> Option<Shipped> {
    let (_, folder, head) = SHIPPED.iter().find(|(known, ..)| *known == name)?;
    let folder = places().into_iter().map(|p| p.join(folder)).find(|f| is_model(f))?;
    let head = head.map(|head| folder.join("heads").join(head));
    Some(Shipped { folder, head })
}

/// Folders that may hold the shipped models, in the order they are looked through.
fn places() -> Vec<PathBuf> {
    let mut places: Vec<PathBuf> =
        std::env::var_os("TILEWRIGHT_MODELS").map(Into::into).into_iter().collect();
    let program = std::env::current_exe().ok();
    if let Some(beside) = program.as_deref().and_then(Path::parent) {
        places.extend([beside.join("models"), beside.join("assets/models")]);
    }
    places.push(Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/models"));
    places
}

fn is_model(folder: &Path) -> bool {
    folder.join("config.json").is_file()
}

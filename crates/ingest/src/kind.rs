//! What a file is, by its name and by its first bytes.

use std::fmt;

use crate::Format;

/// What a document is; it decides how it is split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Markdown, with front matter and tables.
    Markdown,
    /// reStructuredText, with directives and tables.
    RestructuredText,
    /// HTML, of which only the readable text is kept.
    Html,
    /// Paragraphs between blank lines.
    PlainText,
    /// Records of a file of this kind, `jsonl`, `csv` or `tsv`: a text each.
    Records(&'static str),
    /// Source code or configuration: the language's name in lower case.
    Code(&'static str),
    /// Markdown that was taken out of a document of this format.
    Extracted(Format),
}

impl Kind {
    /// The kind that a file of this name has, if its name tells.
    pub fn of_name(path: &str) -> Option<Self> {
        match guess(path) {
            Guess::Text(kind) => Some(kind),
            _ => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Markdown => "markdown",
            Self::RestructuredText => "rst",
            Self::Html => "html",
            Self::PlainText => "text",
            Self::Records(kind) => kind,
            Self::Code(language) => language,
            Self::Extracted(format) => format.name(),
        })
    }
}

/// What a name tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guess {
    /// Text of this kind, if its bytes are text.
    Text(Kind),
    /// A document that text has to be taken out of.
    Document(Format),
    /// A known kind of file that is not read.
    Unsupported(&'static str),
    /// Written by a tool for a tool.
    Generated(&'static str),
    /// Nothing: the bytes decide.
    Unknown,
}

/// What the name of a file tells.
pub(crate) fn guess(path: &str) -> Guess {
    let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
    if LOCK_FILES.contains(&name.as_str()) {
        return Guess::Generated("lock file");
    }
    if let Some(language) = find(NAMES, &name) {
        return Guess::Text(Kind::Code(language));
    }
    // A name that only begins with a dot, such as `.env`, has no extension.
    let Some((stem, extension)) = name.rsplit_once('.').filter(|(stem, _)| !stem.is_empty()) else {
        return Guess::Unknown;
    };
    if stem.ends_with(".min") && matches!(extension, "js" | "css" | "mjs") {
        return Guess::Generated("minified");
    }
    match extension {
        "md" | "markdown" | "mdx" => Guess::Text(Kind::Markdown),
        "html" | "htm" | "xhtml" => Guess::Text(Kind::Html),
        "rst" | "rest" => Guess::Text(Kind::RestructuredText),
        "txt" | "text" | "adoc" | "asciidoc" | "org" | "log" | "tex" | "csv" | "tsv" => Guess::Text(Kind::PlainText),
        "map" => Guess::Generated("source map"),
        _ => find(LANGUAGES, extension)
            .map(|language| Guess::Text(Kind::Code(language)))
            .or_else(|| Format::of_extension(extension).map(Guess::Document))
            .or_else(|| find(UNSUPPORTED, extension).map(Guess::Unsupported))
            .unwrap_or(Guess::Unknown),
    }
}

/// The first of the pairs whose list of words, parted by spaces, holds `word`.
fn find(table: &'static [(&'static str, &'static str)], word: &str) -> Option<&'static str> {
    table.iter().find(|(_, words)| words.split(' ').any(|w| w == word)).map(|(value, _)| *value)
}

const LOCK_FILES: &[&str] = &[
    "bun.lock",
    "bun.lockb",
    "cargo.lock",
    "composer.lock",
    "deno.lock",
    "flake.lock",
    "gemfile.lock",
    "go.sum",
    "mix.lock",
    "npm-shrinkwrap.json",
    "package-lock.json",
    "pdm.lock",
    "pipfile.lock",
    "pnpm-lock.yaml",
    "podfile.lock",
    "poetry.lock",
    "pubspec.lock",
    "uv.lock",
    "yarn.lock",
];

/// Languages told by the whole name.
const NAMES: &[(&str, &str)] = &[
    ("make", "makefile gnumakefile"),
    ("cmake", "cmakelists.txt"),
    ("dockerfile", "dockerfile containerfile"),
    ("ruby", "gemfile rakefile vagrantfile"),
    ("just", "justfile"),
    ("groovy", "jenkinsfile"),
];

/// Languages told by the extension.
const LANGUAGES: &[(&str, &str)] = &[
    ("rust", "rs"),
    ("python", "py pyi pyw"),
    ("javascript", "js mjs cjs jsx"),
    ("typescript", "ts mts cts tsx"),
    ("go", "go"),
    ("java", "java"),
    ("kotlin", "kt kts"),
    ("c", "c h"),
    ("cpp", "cc cpp cxx hh hpp hxx ipp cu cuh"),
    ("csharp", "cs"),
    ("fsharp", "fs fsi fsx"),
    ("objective-c", "m mm"),
    ("ruby", "rb"),
    ("php", "php"),
    ("swift", "swift"),
    ("scala", "scala sc"),
    ("groovy", "groovy gradle"),
    ("shell", "sh bash zsh fish ksh"),
    ("powershell", "ps1 psm1"),
    ("batch", "bat cmd"),
    ("sql", "sql"),
    ("r", "r"),
    ("julia", "jl"),
    ("lua", "lua"),
    ("perl", "pl pm"),
    ("haskell", "hs"),
    ("ocaml", "ml mli"),
    ("elixir", "ex exs"),
    ("erlang", "erl hrl"),
    ("clojure", "clj cljs cljc edn"),
    ("lisp", "lisp el scm rkt"),
    ("dart", "dart"),
    ("zig", "zig"),
    ("nim", "nim"),
    ("nix", "nix"),
    ("solidity", "sol"),
    ("fortran", "f f90 f95 f03"),
    ("assembly", "s asm"),
    ("toml", "toml"),
    ("yaml", "yaml yml"),
    ("json", "json jsonc json5 jsonl ndjson"),
    ("xml", "xml xsd xsl xslt"),
    ("ini", "ini cfg conf properties editorconfig"),
    ("css", "css scss sass less"),
    ("vue", "vue"),
    ("svelte", "svelte"),
    ("astro", "astro"),
    ("proto", "proto"),
    ("graphql", "graphql gql"),
    ("cmake", "cmake"),
    ("make", "mk"),
    ("dockerfile", "dockerfile"),
    ("terraform", "tf tfvars hcl"),
    ("vim", "vim"),
    ("diff", "diff patch"),
];

/// Files that hold no text to read as it is, by extension.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("PostScript", "ps eps"),
    ("word processor document", "rtf pages"),
    ("spreadsheet", "xlsb numbers"),
    ("presentation", "key"),
    ("e-book", "mobi azw azw3 djvu"),
    ("notebook", "ipynb"),
    ("image", "png jpg jpeg gif webp bmp tif tiff ico icns heic avif svg psd xcf ai drawio"),
    ("audio", "mp3 wav flac ogg oga opus m4a aac wma aiff mid midi"),
    ("video", "mp4 m4v mkv mov avi webm wmv flv mpg mpeg ogv"),
    ("font", "ttf otf woff woff2 eot"),
    ("archive", "zip gz tgz bz2 xz zst lz4 7z rar tar jar war whl deb rpm dmg iso crate"),
    ("database", "sqlite sqlite3 db mdb"),
    ("data file", "parquet arrow feather npy npz pt pth onnx safetensors gguf h5 hdf5 pkl pickle"),
    ("program", "exe dll so dylib a o obj lib class wasm pyc pyo rlib rmeta"),
];

/// First bytes that tell a kind whatever the name says.
const MAGIC: &[(&str, &[u8])] = &[
    ("PDF", b"%PDF-"),
    ("PostScript", b"%!PS-Adobe"),
    ("word processor document", b"{\\rtf"),
    ("archive or office document", b"PK\x03\x04"),
    ("office document", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"),
    ("image", b"\x89PNG\r\n"),
    ("image", b"\xff\xd8\xff"),
    ("image", b"GIF8"),
    ("archive", b"\x1f\x8b\x08"),
    ("archive", b"\x28\xb5\x2f\xfd"),
    ("archive", b"\xfd7zXZ\0"),
    ("archive", b"7z\xbc\xaf\x27\x1c"),
    ("program", b"\x7fELF"),
    ("program", b"\0asm"),
    ("database", b"SQLite format 3\0"),
];

/// The kind that the first bytes name.
pub(crate) fn magic(bytes: &[u8]) -> Option<&'static str> {
    MAGIC.iter().find(|(_, start)| bytes.starts_with(start)).map(|(kind, _)| *kind)
}

/// How much of a file is looked at to tell text from data.
const SNIFFED: usize = 8 << 10;

/// Whether these bytes, which carry no UTF-16 mark, are data: a NUL, or more than one control
/// character in ten.
pub(crate) fn is_binary(bytes: &[u8]) -> bool {
    let head = &bytes[..bytes.len().min(SNIFFED)];
    let mut controls = 0;
    for &byte in head {
        match byte {
            0 => return true,
            // White space, and what terminals write: bell, backspace, escape.
            b'\t' | b'\n' | b'\r' | 0x07 | 0x08 | 0x0b | 0x0c | 0x1b => {}
            0x01..0x20 | 0x7f => controls += 1,
            _ => {}
        }
    }
    controls * 10 > head.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_kinds() {
        assert_eq!(guess("a/README.MD"), Guess::Text(Kind::Markdown));
        assert_eq!(guess("a.htm"), Guess::Text(Kind::Html));
        assert_eq!(guess("index.rst"), Guess::Text(Kind::RestructuredText));
        assert_eq!(guess("notes.txt"), Guess::Text(Kind::PlainText));
        assert_eq!(guess("src/main.rs"), Guess::Text(Kind::Code("rust")));
        assert_eq!(guess("Dockerfile"), Guess::Text(Kind::Code("dockerfile")));
        assert_eq!(guess("CMakeLists.txt"), Guess::Text(Kind::Code("cmake")));
        assert_eq!(guess("LICENSE"), Guess::Unknown);
        assert_eq!(guess(".env"), Guess::Unknown);
        assert_eq!(guess("b.DOCX"), Guess::Document(Format::Docx));
        assert_eq!(guess("b.rtf"), Guess::Unsupported("word processor document"));
        assert_eq!(guess("jquery.min.js"), Guess::Generated("minified"));
        assert_eq!(Kind::of_name("x.py"), Some(Kind::Code("python")));
        assert_eq!(Kind::of_name("x.pdf"), None);
    }

    #[test]
    fn no_extension_is_listed_twice() {
        let mut seen = std::collections::HashSet::new();
        for (_, words) in LANGUAGES.iter().chain(UNSUPPORTED) {
            for word in words.split(' ') {
                assert!(seen.insert(word), "{word}");
                assert_eq!(Format::of_extension(word), None, "{word}");
            }
        }
    }

    #[test]
    fn bytes_tell_data_from_text() {
        assert!(is_binary(b"abc\0def"));
        assert!(is_binary(&[1, 2, 3, 4, b'a', b'b']));
        assert!(!is_binary(b"\x1b[31mred\x1b[0m and bell \x07\n"));
        assert!(!is_binary("žluťoučký kůň".as_bytes()));
        assert!(!is_binary(b""));
        assert_eq!(magic(b"%PDF-1.7 .."), Some("PDF"));
        assert_eq!(magic(b"plain"), None);
    }
}

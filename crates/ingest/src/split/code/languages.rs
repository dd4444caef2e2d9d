//! Which nodes of which grammar are definitions, as tables: a language more is a table more.

use tree_sitter_language::LanguageFn;

/// A grammar as its crate gives it.
pub(super) type Grammar = LanguageFn;

/// What is known of a language.
pub(super) struct Language {
    /// Names of [`crate::Kind::Code`], parted by spaces.
    pub(super) names: &'static str,
    /// Tried in this order until one makes sense of a file.
    pub(super) grammars: &'static [Grammar],
    pub(super) rules: &'static [Rule],
    /// A larger file was hardly written by hand.
    pub(super) max_bytes: usize,
}

impl Language {
    const fn new(names: &'static str, grammars: &'static [Grammar], rules: &'static [Rule]) -> Self {
        Self { names, grammars, rules, max_bytes: 512 << 10 }
    }
}

/// What the nodes of these kinds, parted by spaces, are to splitting.
pub(super) type Rule = (&'static str, Role);

/// What a node is to splitting. Kinds without a rule are only walked through.
#[derive(Debug, Clone, Copy)]
pub(super) enum Role {
    /// Belongs to what stands right below: a comment, an attribute.
    Above,
    /// Stands around a definition and is part of it: decorators, `export`, `template <...>`.
    Around,
    /// A definition.
    Definition(Name),
    /// A definition if it has a field `body`; otherwise only the name of one.
    WithBody(Name),
    /// A definition if the field named second holds a function of more than a line; the first names it.
    Bound(&'static str, &'static str),
}

/// How a definition is called.
#[derive(Debug, Clone, Copy)]
pub(super) enum Name {
    /// By a field.
    Field(&'static str),
    /// From its keyword to the end of a field: `class Parser`, `impl Read for File`.
    Head(&'static str),
    /// From one field to the end of another: `(r *Reader) Rank`.
    From(&'static str, &'static str),
    /// By this word and a field: `type Reader`.
    Word(&'static str, &'static str),
    /// By what is innermost of its declarators.
    Declarator,
}

use Name::{Declarator, Field, From, Head, Word};
use Role::{Above, Around, Bound, Definition, WithBody};

impl Language {
    /// All kinds that it has a rule for.
    #[cfg(test)]
    pub(super) fn kinds(&self) -> Vec<&'static str> {
        self.rules.iter().flat_map(|(kinds, _)| kinds.split(' ')).collect()
    }
}

/// The language of this name, if there is a grammar for it.
pub(super) fn find(name: &str) -> Option<&'static Language> {
    LANGUAGES.iter().find(|language| language.names.split(' ').any(|known| known == name))
}

pub(super) const LANGUAGES: &[Language] = &[
    Language::new("rust", &[tree_sitter_rust::LANGUAGE], RUST),
    Language::new("python", &[tree_sitter_python::LANGUAGE], PYTHON),
    Language::new("javascript", &[tree_sitter_javascript::LANGUAGE], JAVASCRIPT),
    // Nothing else tells the two apart: `<T>x` is a cast in the one and an element in the other.
    Language::new(
        "typescript",
        &[tree_sitter_typescript::LANGUAGE_TYPESCRIPT, tree_sitter_typescript::LANGUAGE_TSX],
        TYPESCRIPT,
    ),
    Language::new("go", &[tree_sitter_go::LANGUAGE], GO),
    Language::new("java", &[tree_sitter_java::LANGUAGE], JAVA),
    // A header may be of either.
    Language::new("c", &[tree_sitter_c::LANGUAGE, tree_sitter_cpp::LANGUAGE], CPP),
    Language::new("cpp", &[tree_sitter_cpp::LANGUAGE], CPP),
    Language::new("csharp", &[tree_sitter_c_sharp::LANGUAGE], CSHARP),
    Language::new("ruby", &[tree_sitter_ruby::LANGUAGE], RUBY),
    Language::new("php", &[tree_sitter_php::LANGUAGE_PHP], PHP),
    // In what is no script its scanner takes a time that grows with the square of the size.
    Language { max_bytes: 32 << 10, ..Language::new("shell", &[tree_sitter_bash::LANGUAGE], BASH) },
];

const RUST: &[Rule] = &[
    ("line_comment block_comment attribute_item", Above),
    ("function_item function_signature_item", Definition(Field("name"))),
    ("struct_item enum_item union_item trait_item type_item macro_definition", Definition(Head("name"))),
    ("impl_item", Definition(Head("type"))),
    ("mod_item", WithBody(Head("name"))),
];

const PYTHON: &[Rule] = &[
    ("comment", Above),
    ("decorated_definition", Around),
    ("class_definition", Definition(Head("name"))),
    ("function_definition", Definition(Field("name"))),
];

const JAVASCRIPT: &[Rule] = &[
    ("comment decorator", Above),
    ("export_statement", Around),
    ("class_declaration", Definition(Head("name"))),
    ("function_declaration generator_function_declaration method_definition", Definition(Field("name"))),
    ("variable_declarator", Bound("name", "value")),
    ("assignment_expression", Bound("left", "right")),
    ("pair", Bound("key", "value")),
    ("field_definition", Bound("property", "value")),
];

const TYPESCRIPT: &[Rule] = &[
    ("comment decorator", Above),
    ("export_statement ambient_declaration", Around),
    (
        "class_declaration abstract_class_declaration interface_declaration enum_declaration type_alias_declaration \
         internal_module module",
        Definition(Head("name")),
    ),
    ("function_declaration generator_function_declaration method_definition", Definition(Field("name"))),
    ("function_signature abstract_method_signature", Definition(Field("name"))),
    ("variable_declarator", Bound("name", "value")),
    ("assignment_expression", Bound("left", "right")),
    ("pair", Bound("key", "value")),
    ("public_field_definition", Bound("name", "value")),
];

const GO: &[Rule] = &[
    ("comment", Above),
    ("function_declaration", Definition(Field("name"))),
    ("method_declaration", Definition(From("receiver", "name"))),
    ("type_spec type_alias", Definition(Word("type", "name"))),
];

const JAVA: &[Rule] = &[
    ("line_comment block_comment", Above),
    (
        "class_declaration interface_declaration enum_declaration record_declaration annotation_type_declaration",
        Definition(Head("name")),
    ),
    ("method_declaration constructor_declaration compact_constructor_declaration", Definition(Field("name"))),
];

/// C and C++. A `struct Name` without a body is a type and defines nothing.
const CPP: &[Rule] = &[
    ("comment", Above),
    ("template_declaration", Around),
    ("function_definition type_definition", Definition(Declarator)),
    ("struct_specifier union_specifier enum_specifier class_specifier", WithBody(Head("name"))),
    ("namespace_definition concept_definition", Definition(Head("name"))),
    ("preproc_function_def", Definition(Field("name"))),
];

const CSHARP: &[Rule] = &[
    ("comment", Above),
    (
        "namespace_declaration class_declaration struct_declaration interface_declaration enum_declaration \
         record_declaration",
        Definition(Head("name")),
    ),
    (
        "method_declaration constructor_declaration destructor_declaration property_declaration local_function_statement",
        Definition(Field("name")),
    ),
    ("operator_declaration", Definition(Head("operator"))),
];

const RUBY: &[Rule] = &[
    ("comment", Above),
    ("class module", Definition(Head("name"))),
    ("singleton_class", Definition(Head("value"))),
    ("method", Definition(Field("name"))),
    ("singleton_method", Definition(From("object", "name"))),
];

const PHP: &[Rule] = &[
    ("comment", Above),
    ("namespace_definition", WithBody(Head("name"))),
    ("class_declaration interface_declaration trait_declaration enum_declaration", Definition(Head("name"))),
    ("function_definition method_declaration", Definition(Field("name"))),
];

const BASH: &[Rule] = &[("comment", Above), ("function_definition", Definition(Field("name")))];

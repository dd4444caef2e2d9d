//! The formats that text is taken out of.

use std::fmt;

/// A format that is no text by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// Portable Document Format.
    Pdf,
    /// A text of Word, since 2007.
    Docx,
    /// Slides of PowerPoint, since 2007.
    Pptx,
    /// Sheets of Excel, since 2007.
    Xlsx,
    /// A text of Word, before.
    Doc,
    /// Slides of PowerPoint, before.
    Ppt,
    /// Sheets of Excel, before.
    Xls,
    /// A text of OpenDocument.
    Odt,
    /// Slides of OpenDocument.
    Odp,
    /// Sheets of OpenDocument.
    Ods,
    /// An e-book.
    Epub,
}

/// Name, what people call it, and the extensions of its files.
type Row = (Format, &'static str, &'static str, &'static [&'static str]);

const TABLE: &[Row] = &[
    (Format::Pdf, "pdf", "PDF", &["pdf"]),
    (Format::Docx, "docx", "word processor document", &["docx", "docm", "dotx", "dotm"]),
    (Format::Pptx, "pptx", "presentation", &["pptx", "pptm", "ppsx", "ppsm", "potx"]),
    (Format::Xlsx, "xlsx", "spreadsheet", &["xlsx", "xlsm", "xltx"]),
    (Format::Doc, "doc", "word processor document", &["doc", "dot"]),
    (Format::Ppt, "ppt", "presentation", &["ppt", "pps"]),
    (Format::Xls, "xls", "spreadsheet", &["xls"]),
    (Format::Odt, "odt", "word processor document", &["odt", "ott"]),
    (Format::Odp, "odp", "presentation", &["odp", "otp"]),
    (Format::Ods, "ods", "spreadsheet", &["ods", "ots"]),
    (Format::Epub, "epub", "e-book", &["epub"]),
];

impl Format {
    /// The format of files with this extension, in lower case.
    pub fn of_extension(extension: &str) -> Option<Self> {
        TABLE.iter().find(|(.., extensions)| extensions.contains(&extension)).map(|row| row.0)
    }

    /// Its short name, such as `pdf`.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// What people call it, such as `e-book`.
    pub fn called(self) -> &'static str {
        self.row().2
    }

    /// The number that stands for it between processes.
    pub(super) fn number(self) -> u8 {
        TABLE.iter().position(|row| row.0 == self).unwrap_or_default() as u8
    }

    /// The format of a number.
    #[cfg_attr(not(feature = "extract"), expect(dead_code, reason = "what a worker reads"))]
    pub(super) fn of_number(number: u8) -> Option<Self> {
        TABLE.get(usize::from(number)).map(|row| row.0)
    }

    /// Whether a page of it, a slide or a sheet, is read by itself: no passage goes from one to the next.
    pub(crate) fn has_pages_apart(self) -> bool {
        matches!(self, Self::Pptx | Self::Ppt | Self::Odp | Self::Xlsx | Self::Xls | Self::Ods)
    }

    fn row(self) -> &'static Row {
        TABLE.iter().find(|row| row.0 == self).unwrap_or(&TABLE[0])
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

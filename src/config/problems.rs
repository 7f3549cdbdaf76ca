//! What is wrong with a file: where, what, and what would be right.

use codespan_reporting::diagnostic::{Diagnostic, Label};
use codespan_reporting::files::SimpleFile;
use codespan_reporting::term::termcolor::{ColorChoice, StandardStream, WriteColor};
use codespan_reporting::term::{self, DisplayStyle};
use std::fmt;
use std::io::{self, IsTerminal};
use std::ops::Range;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Severity {
    /// The file is refused.
    Error,
    /// The file is taken; somebody may want to know.
    Note,
}

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    severity: Severity,
    /// Bytes of the text; `None` when the problem is not in the text.
    span: Option<Range<usize>>,
    wrong: Box<str>,
    here: String,
    right: Option<String>,
    also: Vec<(Range<usize>, String)>,
}

impl Problem {
    /// A problem with the file as a whole, or with what surrounds it.
    pub(crate) fn outside(wrong: impl Into<String>) -> Self {
        let (span, right, also) = (None, None, Vec::new());
        let wrong = wrong.into().into_boxed_str();
        Self { severity: Severity::Error, span, wrong, here: String::new(), right, also }
    }

    /// Something that is right, but may not be what was meant.
    pub(crate) fn note(span: &Range<usize>, what: impl Into<String>) -> Self {
        Self { severity: Severity::Note, ..Self::at(span, what) }
    }

    pub(crate) fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    pub(crate) fn at(span: &Range<usize>, wrong: impl Into<String>) -> Self {
        Self { span: Some(span.clone()), ..Self::outside(wrong) }
    }

    /// The same problem, shown where the text leads to it.
    pub(crate) fn named_at(self, span: &Range<usize>) -> Self {
        Self { span: Some(span.clone()), here: "named here".to_owned(), ..self }
    }

    /// What to write under the marked text.
    pub(crate) fn here(self, here: impl Into<String>) -> Self {
        Self { here: here.into(), ..self }
    }

    /// What would be right.
    pub(crate) fn right(self, right: impl Into<String>) -> Self {
        Self { right: Some(right.into()), ..self }
    }

    /// Another place that has to do with it.
    pub(crate) fn also(mut self, span: &Range<usize>, what: impl Into<String>) -> Self {
        self.also.push((span.clone(), what.into()));
        self
    }

    fn diagnostic(&self) -> Diagnostic<()> {
        let labels = self.span.iter().map(|span| Label::primary((), span.clone()).with_message(&self.here));
        let also = self.also.iter().map(|(span, what)| Label::secondary((), span.clone()).with_message(what));
        let diagnostic = match self.severity {
            Severity::Error => Diagnostic::error(),
            Severity::Note => Diagnostic::note(),
        };
        diagnostic
            .with_message(&*self.wrong)
            .with_labels(labels.chain(also).collect())
            .with_notes(self.right.iter().cloned().collect())
    }
}

/// Everything that is to be said of one configuration file, in the order of the file.
///
/// `Display` renders it without colour.
#[derive(Debug, Clone)]
pub struct Problems {
    file: SimpleFile<String, String>,
    list: Vec<Problem>,
    /// The list ends early.
    more: bool,
}

impl Problems {
    /// More than anyone reads; binary junk has thousands.
    const MAX: usize = 100;
    /// A longer line is not shown, only its place.
    const LINE_BYTES_MAX: usize = 500;

    pub(crate) fn new(file_name: &str, text: &str, mut list: Vec<Problem>) -> Self {
        // Problems outside the text come first: they often explain the others.
        list.sort_by_key(|problem| problem.span.as_ref().map(|span| (span.start, span.end)));
        list.dedup();
        let more = list.len() > Self::MAX;
        list.truncate(Self::MAX);
        // A control character (an escape sequence) in the file must not reach the terminal.
        let printable = |c: char| if c.is_ascii_control() && !"\n\r\t".contains(c) { '?' } else { c };
        let text = text.chars().map(printable).collect();
        Self { file: SimpleFile::new(file_name.to_owned(), text), list, more }
    }

    /// How many there are, at least 1.
    pub fn count(&self) -> usize {
        self.list.len()
    }

    /// Writes all problems, in colour if the writer has any.
    ///
    /// # Errors
    /// When the writer fails.
    fn render(&self, writer: &mut dyn WriteColor) -> io::Result<()> {
        for problem in &self.list {
            let style = term::Config { display_style: self.style(problem), ..term::Config::default() };
            term::emit_to_write_style(writer, &style, &self.file, &problem.diagnostic())
                .map_err(io::Error::other)?;
        }
        if self.more {
            writeln!(writer, "and more; only the first {} are shown", Self::MAX)?;
        }
        Ok(())
    }

    /// Writes all problems to standard error, in colour where that is a terminal.
    ///
    /// # Errors
    /// When standard error is gone.
    pub fn to_stderr(&self) -> io::Result<()> {
        let colour = if io::stderr().is_terminal() { ColorChoice::Auto } else { ColorChoice::Never };
        self.render(&mut StandardStream::stderr(colour))
    }

    fn style(&self, problem: &Problem) -> DisplayStyle {
        let line_length = |span: &Range<usize>| {
            let text = self.file.source().as_str();
            let before = text.get(..span.start).map_or(0, |t| t.len() - t.rfind('\n').map_or(0, |at| at + 1));
            before + text.get(span.start..).map_or(0, |t| t.find('\n').unwrap_or(t.len()))
        };
        let spans = problem.span.iter().chain(problem.also.iter().map(|(span, _)| span));
        if spans.map(line_length).any(|length| length > Self::LINE_BYTES_MAX) {
            DisplayStyle::Medium
        } else {
            DisplayStyle::Rich
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut buffer = term::termcolor::Buffer::no_color();
        self.render(&mut buffer).map_err(|_| fmt::Error)?;
        f.write_str(&String::from_utf8_lossy(buffer.as_slice()))
    }
}

impl std::error::Error for Problems {}

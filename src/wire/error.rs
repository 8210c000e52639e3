//! Why a head was refused.
//!
//! One enum for both directions: in a request the fault is the client's and [`HeadError::status`] is the answer; in a
//! response it is the upstream's, the client gets 502 and the connection is closed whatever the variant says.

use super::fields::Known;

/// What is wrong with a head. Each variant closes the connection: after it nobody knows where the next message starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HeadError {
    /// More than two empty lines came before the request line.
    LeadingLines,
    /// The method holds a byte that is not a `tchar`, or is empty.
    Method,
    /// The method is longer than 32 bytes.
    MethodTooLong,
    /// The request line is longer than the limit.
    RequestLineTooLong,
    /// The request target is empty or holds a byte that is not visible ASCII.
    TargetByte,
    /// The request line or status line does not end in `HTTP/1.0` or `HTTP/1.1` as the grammar wants it.
    Version,
    /// A well-formed version that is not 1.0 or 1.1.
    VersionUnsupported,
    /// A line ends in LF without CR.
    BareLf,
    /// A CR is not followed by LF.
    BareCr,
    /// A line starts with a blank (obs-fold, or space before the first field).
    Folded,
    /// A field name is empty, holds a byte that is not a `tchar`, or has no colon after it.
    FieldName,
    /// There is a blank between a field name and its colon.
    SpaceBeforeColon,
    /// A field value holds a control byte.
    FieldValue,
    /// The head is longer than the limit.
    HeadTooLarge,
    /// The head has more fields than the limit.
    TooManyFields,
    /// The status code is not three digits from 100 to 599.
    StatusCode,
    /// The reason phrase holds a control byte.
    Reason,
    /// An HTTP/1.1 request has no Host.
    HostMissing,
    /// The Host value is not `name`, `name:port` or `[address]:port`.
    HostValue,
    /// The target names another authority than Host does.
    HostMismatch,
    /// A field that may come once came more than once.
    Repeated(Known),
    /// Content-Length is not 1 to 19 digits without sign, blank or leading zero.
    ContentLength,
    /// Both Content-Length and Transfer-Encoding are present.
    LengthAndEncoding,
    /// Transfer-Encoding is anything but one `chunked`.
    TransferEncoding,
    /// Transfer-Encoding asks for a coding that exists but is not offered.
    TransferCoding,
    /// Transfer-Encoding in an HTTP/1.0 message.
    EncodingInOldVersion,
    /// A Connection value is not a list of tokens.
    ConnectionValue,
    /// Connection nominates a field that must reach the other side.
    Nomination,
    /// A field name becomes one that decides framing or access when `_` is read as `-`.
    UnderscoreAlias,
    /// An Expect value other than `100-continue`.
    Expectation,
    /// CONNECT: this is no tunnel.
    Connect,
    /// The target has a form that does not fit its method: `*` without OPTIONS, or neither a path nor an absolute URL.
    TargetForm,
    /// The path has a `.` or `..` segment, plain or percent-encoded.
    DotSegment,
    /// The path has an empty segment (`//`).
    EmptySegment,
    /// The path has an encoded slash (`%2f`).
    EncodedSlash,
    /// The path has a backslash or NUL, plain or percent-encoded, or another byte that no path may have.
    PathByte,
    /// The path has a `;` parameter.
    PathParameter,
    /// A `%` is not followed by two hexadecimal digits.
    PercentEncoding,
    /// The target has a fragment.
    Fragment,
    /// 101 was answered although no upgrade was asked for.
    Unrequested101,
}

impl HeadError {
    /// The status to answer a request with: 400, 404, 414, 417, 431, 501 or 505. For responses it is always 502.
    pub fn status(self) -> u16 {
        match self {
            Self::EmptySegment | Self::EncodedSlash | Self::PathParameter => 404,
            Self::RequestLineTooLong => 414,
            Self::Expectation => 417,
            Self::HeadTooLarge | Self::TooManyFields => 431,
            Self::TransferCoding | Self::Connect => 501,
            Self::VersionUnsupported => 505,
            _ => 400,
        }
    }

    /// What is wrong and what to do, as one sentence for the person who sent it.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::LeadingLines => "There are more than two empty lines before the request line; send none.",
            Self::Method => {
                "The request does not start with a method; check that the port expects plain HTTP."
            }
            Self::MethodTooLong => "The method is longer than 32 bytes; use a standard method.",
            Self::RequestLineTooLong => {
                "The request line is too long; move parameters into the body, or raise limits.request_line."
            }
            Self::TargetByte => "The request target holds a blank or a byte that must be percent-encoded.",
            Self::Version => "The first line does not end in HTTP/1.1; check the line the client writes.",
            Self::VersionUnsupported => "Only HTTP/1.1 and HTTP/1.0 are offered here; use one of them.",
            Self::BareLf => "A line of the head ends in LF alone; end each line in CRLF.",
            Self::BareCr => "A CR stands alone in the head; end each line in CRLF.",
            Self::Folded => "A line of the head starts with a blank; write each field on one line.",
            Self::FieldName => "A field name is empty or malformed; write each field as Name: value.",
            Self::SpaceBeforeColon => "There is a blank before the colon of a field; remove it.",
            Self::FieldValue => "A field value holds a control character; remove it.",
            Self::HeadTooLarge => "The head is too long; send fewer or shorter fields, or raise limits.head.",
            Self::TooManyFields => "The head has too many fields; send fewer, or raise limits.head_fields.",
            Self::StatusCode => "The status code is not a number from 100 to 599.",
            Self::Reason => "The reason phrase holds a control character.",
            Self::HostMissing => "The Host field is missing; HTTP/1.1 requires it.",
            Self::HostValue => "The Host field is not a plain host name with an optional port; correct it.",
            Self::HostMismatch => {
                "The URL in the request line names another host than the Host field; send a path."
            }
            Self::Repeated(_) => "A field that may come only once came twice; send it once.",
            Self::ContentLength => "Content-Length is not a plain decimal number; correct it.",
            Self::LengthAndEncoding => {
                "Content-Length and Transfer-Encoding came together; send one of them."
            }
            Self::TransferEncoding => {
                "Transfer-Encoding must be exactly chunked; correct it or leave it out."
            }
            Self::TransferCoding => {
                "This transfer coding is not offered; send chunked alone or a Content-Length."
            }
            Self::EncodingInOldVersion => {
                "HTTP/1.0 has no Transfer-Encoding; use HTTP/1.1 or Content-Length."
            }
            Self::ConnectionValue => "The Connection field is not a list of names; correct it.",
            Self::Nomination => "Connection names a field that must be passed on; remove it from the list.",
            Self::UnderscoreAlias => {
                "A field name has an underscore where a known field has a dash; use the dash."
            }
            Self::Expectation => "Only Expect: 100-continue is offered; leave the field out.",
            Self::Connect => {
                "CONNECT is not offered: this gateway is not a tunnel; send requests to it directly."
            }
            Self::TargetForm => "The request target must start with a slash; check the base URL.",
            Self::DotSegment => "The path holds a . or .. segment; send the final path.",
            Self::EmptySegment => {
                "The path holds an empty segment (//); check the base URL for a trailing slash."
            }
            Self::EncodedSlash => "The path holds %2F, which is no separator here; send the final path.",
            Self::PathByte => "The path holds a byte that no path here has; check the URL.",
            Self::PathParameter => "The path holds a ; parameter, which no path here has; check the URL.",
            Self::PercentEncoding => {
                "A % in the request target is not followed by two hex digits; encode it as %25."
            }
            Self::Fragment => "The request target holds a # fragment; leave it out.",
            Self::Unrequested101 => "The upstream switched protocols although nobody asked for it.",
        }
    }
}

impl std::fmt::Display for HeadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.sentence())
    }
}

impl std::error::Error for HeadError {}

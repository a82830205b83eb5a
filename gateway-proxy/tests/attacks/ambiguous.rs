//! Requests that two parsers may read differently, piece by piece.

/// Framings that can be read in two ways, as header lines, each with a body that ends early in one
/// of them and hides the rest.
pub(super) const FRAMINGS: [&[u8]; 58] = [
    // CL.TE and TE.CL, in every order and spelling.
    b"Content-Length: 5\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\nContent-Length: 5",
    b"CONTENT-LENGTH: 5\r\ntransfer-encoding: CHUNKED",
    b"Content-Length: 0\r\nTransfer-Encoding: chunked",
    b"Content-Length: 5\nTransfer-Encoding: chunked",
    b"Content-Length: 5\r\nX: y\nTransfer-Encoding: chunked",
    // TE.TE: one of them is meant to be overlooked by somebody.
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: cow",
    b"Transfer-Encoding: cow\r\nTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\r\nTransfer-encoding: identity",
    b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding: chunkedx",
    b"Transfer-Encoding: chunked, chunked",
    b"Transfer-Encoding: chunked, identity",
    b"Transfer-Encoding: identity, chunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: identity",
    b"Transfer-Encoding: chunked;q=1",
    b"Transfer-Encoding: \"chunked\"",
    b"Transfer-Encoding: ch\x00unked",
    b"Transfer-Encoding: \x0bchunked",
    b"Transfer-Encoding: chunked\x0c",
    b"Transfer-Encoding:",
    b"Transfer-Encoding : chunked",
    b"Transfer-Encoding\t: chunked",
    b"Transfer-Encoding\r\n : chunked",
    b" Transfer-Encoding: chunked",
    b"X: y\r\n Transfer-Encoding: chunked",
    b"X: y\rTransfer-Encoding: chunked",
    b"Transfer-Encoding: chunked\rX: y",
    b"Transfer-Encoding: \r\n chunked",
    b"Transfer-Encoding: chunked\r\n ,identity",
    b"\x00Transfer-Encoding: chunked",
    b"Transfer\xc2\xadEncoding: chunked",
    b"Transfer-Encoding\x00: chunked",
    b"Transfer Encoding: chunked",
    // One length, and only one.
    b"Content-Length: 5\r\nContent-Length: 5",
    b"Content-Length: 5\r\nContent-Length: 6",
    b"Content-Length: 0\r\nContent-Length: 5",
    b"Content-Length: 5\r\nContent-Length:",
    b"Content-Length: 5, 5",
    b"Content-Length: 5,6",
    b"Content-Length: 5;6",
    b"Content-Length: 5 5",
    b"Content-Length: +5",
    b"Content-Length: -5",
    b"Content-Length: 0x5",
    b"Content-Length: 5e0",
    b"Content-Length: 5.0",
    b"Content-Length: 5_0",
    b"Content-Length: \xef\xbc\x95",
    b"Content-Length: 5\x00",
    b"Content-Length: 18446744073709551621",
    b"Content-Length: 99999999999999999999999999999999999999",
    b"Content-Length:",
    b"Content-Length : 5",
    b"Content-Length: 5\r\n 5",
    b"X: y\rContent-Length: 5",
];

/// Chunked bodies that are none; what follows them is hidden in a chunk of somebody's reading.
pub(super) const CHUNKS: [&[u8]; 20] = [
    b"ffffffffffffffff1\r\n",
    b"10000000000000005\r\n",
    b"fffffffffffffffb\r\n",
    b"ffffffffffffffff\r\n",
    b"8000000000000000\r\n",
    b"-1\r\n",
    b"+5\r\n",
    b"0x5\r\n",
    b"5_0\r\n",
    b"g\r\n",
    b"\xef\xbc\x95\r\n",
    b"5\r\nhello0\r\n\r\n",
    b"5\r\nhelloX\r\n0\r\n\r\n",
    b"5\r\nhell\r\n0\r\n\r\n",
    b"5\r\nhello\r\n\r\n0\r\n\r\n",
    b"5;\x00\r\nhello\r\n0\r\n\r\n",
    b"5;a\rb\r\nhello\r\n0\r\n\r\n",
    b"5\rhello\r0\r\r",
    b"5\x0b\r\nhello\r\n0\r\n\r\n",
    b"0\r\rGET / HTTP/1.1\r\n\r\n",
];

/// Lines in a chunk size's place without a digit. The parser behind us takes them for the last chunk; then
/// nothing that came with them may be taken for a request.
pub(super) const NO_SIZES: [&[u8]; 3] = [b"\r\n", b" \r\n", b";x\r\n"];

/// Trailers that are none or that would frame the message anew, each of which ends its body.
pub(super) const TRAILERS: [&[u8]; 6] = [
    b"0\r\nX\r\n\r\n",
    b"0\r\n : y\r\n\r\n",
    b"0\r\nX: y\rZ\r\n\r\n",
    b"0\r\nContent-Length: 500\r\n\r\n",
    b"0\r\nTransfer-Encoding: identity\r\n\r\n",
    b"0\r\nAuthorization: Bearer x\r\nHost: other.test\r\n\r\n",
];

/// Whole requests that are none, or that ask for what is not offered; `{}` stands for the path.
pub(super) const LINES: [&str; 22] = [
    "CONNECT 127.0.0.1:80 HTTP/1.1",
    "CONNECT {} HTTP/1.1",
    "POST http://other.test{} HTTP/1.1",
    "POST http://crochet.test:80{} HTTP/1.1",
    "POST http://crochet.test@other.test{} HTTP/1.1",
    "POST ftp://crochet.test{} HTTP/1.1",
    "POST //crochet.test{} HTTP/1.1",
    "POST crochet.test{} HTTP/1.1",
    "POST {} HTTP/1.2",
    "POST {} HTTP/2.0",
    "POST {} HTTP/0.9",
    "POST {} http/1.1",
    "POST {} HTTP/1.1 ",
    "POST {}  HTTP/1.1",
    "POST\t{}\tHTTP/1.1",
    "POST {}\0 HTTP/1.1",
    "POST {} x HTTP/1.1",
    "POST {}\u{e9} HTTP/1.1",
    " POST {} HTTP/1.1",
    "PO(ST {} HTTP/1.1",
    "POST {}",
    "PRI * HTTP/2.0",
];

/// Header lines that no request may have, beside an honest length.
pub(super) const HEADERS: [&[u8]; 14] = [
    b"Host: crochet.test",
    b"Host: other.test",
    b"X-A: a\x00b",
    b"X-A: a\x01b",
    b"X-A: a\x7fb",
    b"X-A\x00: b",
    b"X-A : b",
    b"X-A\r\n: b",
    b" X-A: b",
    b"\tX-A: b",
    b"X-A: a\rX-B: b",
    b": b",
    b"X-A",
    b"X(A): b",
];

//! A request's head as bytes: what is accepted here is accepted by the parser behind it, which reads
//! the same length in it.
#![no_main]

use gateway_proxy::head::{self, Length};

const HEADERS_MAX: usize = 256;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some(end) = head::end(bytes, 0) else {
        return;
    };
    assert!(end <= bytes.len());
    let (whole, _) = bytes.split_at(end);
    let Ok(length) = head::judge(whole) else {
        return;
    };
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    // An empty line before a request ends a head of no lines, which no request is.
    let parsed = request.parse(whole);
    assert!(
        matches!(parsed, Ok(httparse::Status::Complete(at)) if at == whole.len()),
        "{parsed:?}"
    );
    let named = |name: &str| -> Vec<&[u8]> {
        let all = request.headers.iter();
        all.filter(|header| header.name.eq_ignore_ascii_case(name))
            .map(|header| header.value)
            .collect()
    };
    let (lengths, codings) = (named("content-length"), named("transfer-encoding"));
    match length {
        Length::Chunked => assert!(lengths.is_empty() && codings.len() == 1),
        Length::Bytes(0) if lengths.is_empty() => assert!(codings.is_empty()),
        Length::Bytes(said) => {
            assert!(codings.is_empty() && lengths.len() == 1);
            let text = std::str::from_utf8(lengths[0]).expect("digits");
            assert_eq!(text.trim().parse(), Ok(said));
        }
    }
});

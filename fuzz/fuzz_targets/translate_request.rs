//! What a translator accepts comes out as JSON, in both directions, and what came out can be translated back or is refused.
#![no_main]

use sluice::dialect::{anthropic_to_openai, openai_to_anthropic};
use sluice::wire::json::{DEPTH_MAX, validate};

libfuzzer_sys::fuzz_target!(|body: &[u8]| {
    for model in ["claude-haiku-4-5", "claude-opus-5-5", "claude-3-haiku-20240307"] {
        let mut out = Vec::new();
        let options = openai_to_anthropic::TranslateOptions { model, default_max_tokens: None };
        if openai_to_anthropic::translate_request(body, &options, &mut out).is_ok() {
            validate(&out, DEPTH_MAX).expect("an accepted request is JSON");
            let mut back = Vec::new();
            let options = anthropic_to_openai::TranslateOptions { model: "gpt-4o" };
            if anthropic_to_openai::translate_request(&out, &options, &mut back).is_ok() {
                validate(&back, DEPTH_MAX).expect("an accepted request is JSON");
            }
        }
    }
    let mut out = Vec::new();
    let options = anthropic_to_openai::TranslateOptions { model: "gpt-5" };
    if anthropic_to_openai::translate_request(body, &options, &mut out).is_ok() {
        validate(&out, DEPTH_MAX).expect("an accepted request is JSON");
    }
});

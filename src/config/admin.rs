//! `admin`: the live page with its API, and the token for what changes something.
//!
//! The page is on unless the file says `admin: off`. Without a token it can be read where that is safe (the gateway
//! listens on loopback and knows no client keys) and changes nothing anywhere.

use super::compile::secret;
use super::diagnostics::Report;
use super::reader::{Fields, Word};
use super::secret::Secret;

/// Shortest token, bytes: 16 random bytes as text are longer, and anything shorter was thought up by a person.
pub const TOKEN_MIN: usize = 16;

/// Whether there is a page, and who may change something through it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminConfig {
    /// The page and its API are served.
    pub page: bool,
    /// What opens everything; without one nothing can be changed.
    pub token: Option<Secret>,
}

impl Default for AdminConfig {
    fn default() -> Self {
        AdminConfig { page: true, token: None }
    }
}

/// `admin` as written.
#[derive(Default)]
pub(super) struct AdminFile {
    page: Option<bool>,
    token: Option<Word>,
}

/// Reads `admin`: a switch, or a mapping.
pub(super) fn read(fields: &mut Fields<'_>, report: &mut Report) -> AdminFile {
    let Some(item) = fields.item("admin") else { return AdminFile::default() };
    if let Some(page) = item.switch() {
        return AdminFile { page: Some(page), token: None };
    }
    let mut fields = item.fields(report);
    let page = fields.item("page").and_then(|item| {
        let switch = item.switch();
        if switch.is_none() {
            item.error(report, format!("`{}` is a switch", item.path), "write `on` or `off`");
        }
        switch
    });
    let token = fields.item("token").and_then(|item| item.word(report));
    fields.finish(report, &[]);
    AdminFile { page, token }
}

/// With its defaults. `client_keys` are what clients present: one of them is no admin token.
pub(super) fn compile(
    file: &AdminFile,
    client_keys: &[super::plan::ClientKey],
    report: &mut Report,
) -> AdminConfig {
    const MAKE: &str = "make one with `openssl rand -hex 32` and keep it in the environment";
    let page = file.page.unwrap_or(true);
    let Some(word) = &file.token else { return AdminConfig { page, token: None } };
    let subject = match &word.variable {
        Some(variable) => format!("environment variable `{variable}`"),
        None => format!("`{}`", word.path),
    };
    if word.variable.is_none() {
        let message = format!("the token at `{}` stands in the clear", word.path);
        report.warn(word.at, &word.path, message, "write `env.NAME` and keep the token in the environment");
    }
    let token = match secret(&word.text) {
        Ok(token) => token,
        Err(why) => {
            report.error(word.at, &word.path, format!("{subject} {why}"), MAKE);
            return AdminConfig { page, token: None };
        }
    };
    if token.expose().len() < TOKEN_MIN {
        report.error(
            word.at,
            &word.path,
            format!("{subject} is shorter than {TOKEN_MIN} characters, which can be guessed"),
            MAKE,
        );
    }
    if client_keys.iter().any(|key| key.secret == token) {
        let help = format!("every client could change the gateway; {MAKE}");
        report.error(word.at, &word.path, format!("{subject} is one of the client keys in `auth`"), help);
    }
    AdminConfig { page, token: Some(token) }
}

#[cfg(test)]
mod tests {
    use super::super::load::Loader;
    use super::*;

    fn load(text: &str) -> Result<(AdminConfig, usize), String> {
        let loader = Loader { file: Some("t.yaml".into()), ..Loader::default() };
        let text = format!("{{providers: {{x: {{base_url: 'http://h'}}}}, {text}}}");
        let env = |name: &str| match name {
            "TOKEN" => Some("a-token-of-some-length".to_owned()),
            "SHORT" => Some("x".repeat(TOKEN_MIN - 1)),
            "LEAST" => Some("x".repeat(TOKEN_MIN)),
            "BROKEN" => Some("two\nlines of sixteen".to_owned()),
            _ => None,
        };
        let plan = loader.load_text(&text, &env).map_err(|e| e.to_string())?;
        Ok((plan.admin, plan.warnings.len()))
    }

    #[test]
    fn the_page_is_there_without_a_word_and_goes_away_with_one() {
        assert_eq!(load("").unwrap(), (AdminConfig { page: true, token: None }, 0));
        for text in ["admin: off", "admin: {page: off}"] {
            assert!(!load(text).unwrap().0.page, "{text}");
        }
        assert!(load("admin: on").unwrap().0.page);
        let (own, warnings) = load("admin: {token: env.TOKEN}").unwrap();
        assert!(own.page && warnings == 0 && own.token.unwrap().matches(b"a-token-of-some-length"));
        assert!(load("admin: {token: env.LEAST}").is_ok());
        assert_eq!(load("admin: {token: in-the-clear-but-long}").unwrap().1, 1);
    }

    #[test]
    fn a_token_that_protects_nothing_is_refused_with_what_to_do() {
        for (text, words) in [
            ("admin: {token: env.SHORT}", "shorter than 16"),
            ("admin: {token: env.BROKEN}", "line break"),
            ("admin: {token: env.TOKEN}, auth: [env.TOKEN]", "one of the client keys"),
            ("admin: {page: maybe}", "`on` or `off`"),
            ("admin: {tokn: env.TOKEN}", "token"),
        ] {
            let said = load(text).unwrap_err();
            assert!(said.contains(words), "{text}: {said}");
            assert!(!said.contains("a-token-of"), "{said}");
        }
    }
}

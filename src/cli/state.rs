//! Where Sluice keeps what outlives it, when no configuration says where.

use std::path::PathBuf;

use crate::config::Env;

/// The ledger of whoever runs this: in the state directory that systemd gives a service, else in the user's own (XDG Base
/// Directory). `None` when there is neither.
pub(super) fn ledger(env: Env<'_>) -> Option<PathBuf> {
    let absolute = |name: &str| env(name).map(PathBuf::from).filter(|path| path.is_absolute());
    // A service may have several directories, with colons between them; the first is its own.
    let first = |paths: String| paths.split(':').next().map(PathBuf::from).filter(|path| path.is_absolute());
    if let Some(own) = env("STATE_DIRECTORY").and_then(first) {
        return Some(own.join("ledger.db"));
    }
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    Some(state.join("sluice/ledger.db"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_a_user_and_nobody_have_their_own_place_or_none() {
        let at = |variables: &[(&str, &str)]| {
            let env = |name: &str| {
                variables.iter().find(|(own, _)| *own == name).map(|(_, value)| (*value).to_owned())
            };
            ledger(&env).map(|path| path.display().to_string())
        };
        let home = ("HOME", "/home/ann");
        assert_eq!(at(&[home]).as_deref(), Some("/home/ann/.local/state/sluice/ledger.db"));
        assert_eq!(at(&[home, ("XDG_STATE_HOME", "/s")]).as_deref(), Some("/s/sluice/ledger.db"));
        // The standard says that a relative path is to be ignored.
        let relative = at(&[home, ("XDG_STATE_HOME", "s")]);
        assert_eq!(relative.as_deref(), Some("/home/ann/.local/state/sluice/ledger.db"));
        let service = at(&[home, ("STATE_DIRECTORY", "/var/lib/sluice:/var/lib/b")]);
        assert_eq!(service.as_deref(), Some("/var/lib/sluice/ledger.db"));
        assert_eq!(at(&[]), None);
    }
}

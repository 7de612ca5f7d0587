//! Which arguments hold a password: whoever shows requests to people (MONITOR, SLOWLOG) shows `(redacted)` instead.

use larder_wire::command::CommandId;
use larder_wire::resp::Request;

/// Parameters whose values CONFIG SET is not to be seen with.
const SECRET_PARAMETERS: &[&str] = &["requirepass", "masterauth", "masteruser"];

/// True when argument `index` of a request for `id` is a secret.
pub fn is_secret(id: CommandId, request: &Request<'_>, index: usize) -> bool {
    match id {
        CommandId::Auth => index >= 1,
        CommandId::AclSetuser => index >= 2,
        CommandId::LarderHello => index == 3,
        CommandId::Hello => {
            hello_secrets(request).any(|auth| index == auth + 1 || index == auth + 2)
        }
        CommandId::Migrate => {
            follows(request, index, "auth", 1)
                || follows(request, index, "auth2", 1)
                || follows(request, index, "auth2", 2)
        }
        CommandId::ConfigSet => {
            index >= 3
                && index % 2 == 1
                && SECRET_PARAMETERS
                    .iter()
                    .any(|name| is_word(request, index - 1, name))
        }
        _ => false,
    }
}

/// Where HELLO's AUTHs are.
fn hello_secrets(request: &Request<'_>) -> impl Iterator<Item = usize> {
    let mut at = 2;
    std::iter::from_fn(move || {
        while at < request.len() {
            let here = at;
            if is_word(request, here, "auth") {
                at += 3;
                return Some(here);
            }
            at += 2;
        }
        None
    })
}

fn follows(request: &Request<'_>, index: usize, word: &str, by: usize) -> bool {
    const OPTIONS_FROM: usize = 6;
    index >= OPTIONS_FROM + by && is_word(request, index - by, word)
}

fn is_word(request: &Request<'_>, index: usize, word: &str) -> bool {
    request
        .get(index)
        .is_some_and(|arg| arg.eq_ignore_ascii_case(word.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_wire::command::{Found, lookup};
    use larder_wire::resp::OwnedRequest;

    #[test]
    fn passwords_are_hidden_and_nothing_else() {
        for (line, expected) in [
            ("auth pw", "auth *"),
            ("auth alice pw", "auth * *"),
            (
                "hello 3 auth alice pw setname x",
                "hello 3 auth * * setname x",
            ),
            (
                "hello 3 setname auth auth alice pw",
                "hello 3 setname auth auth * *",
            ),
            ("acl setuser alice on >pw", "acl setuser * * *"),
            ("acl getuser alice", "acl getuser alice"),
            (
                "config set maxmemory 0 requirepass pw",
                "config set maxmemory 0 requirepass *",
            ),
            ("migrate h 1 k 0 1 auth pw", "migrate h 1 k 0 1 auth *"),
            (
                "migrate h 1 k 0 1 copy auth2 u pw keys a",
                "migrate h 1 k 0 1 copy auth2 * * keys a",
            ),
            ("larder hello 1 s node", "larder hello 1 * node"),
            ("set auth pw", "set auth pw"),
        ] {
            let request = OwnedRequest::from_args(line.split(' ').collect::<Vec<_>>());
            let request = request.view();
            let Found::Command(id) = lookup(request.name(), request.get(1)) else {
                panic!("no command: {line}");
            };
            let shown: Vec<&str> = line
                .split(' ')
                .enumerate()
                .map(|(index, arg)| {
                    if is_secret(id, &request, index) {
                        "*"
                    } else {
                        arg
                    }
                })
                .collect();
            assert_eq!(shown.join(" "), expected);
        }
    }
}

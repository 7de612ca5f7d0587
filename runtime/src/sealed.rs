//! The login of another server's URL, sealed under the cluster's secret: what is recorded of it tells nobody who has not the secret.
//!
//! ```text
//! redis://ann:password@old:6379  ──seal──▶  redis+sealed://<nonce, AES-256-GCM of "ann:password", tag>@old:6379
//! ```
//! Keys are made of the secret by HKDF-SHA-256, and the server's place is sealed with the login. The nonce is an HMAC of both, so one URL
//! is sealed to one text: records that are the same stay so. Who has only the text can tell whether two logins are the same, and can guess at a
//! secret that is short.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use larder_wire::forwarding::SEALED_SCHEME;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::hmac;

use crate::Secret;
use crate::foreign::RedisUrl;

const KEY_BYTES: usize = 32;

/// The URL as it may be kept and shown.
pub fn seal(url: &RedisUrl, secret: &Secret) -> String {
    let place = url.addr();
    let Some(login) = url.login_text() else {
        return url.to_string();
    };
    let nonce = hmac::sign(
        &hmac::Key::new(hmac::HMAC_SHA256, &key(secret, b"nonce")),
        format!("{place} {login}").as_bytes(),
    );
    let mut sealed = nonce.as_ref()[..NONCE_LEN].to_vec();
    let mut text = login.as_bytes().to_vec();
    let done = sealer(secret).seal_in_place_append_tag(
        nonce_of(&sealed),
        Aad::from(place.as_bytes()),
        &mut text,
    );
    done.expect("a login is shorter than what AES-GCM can seal");
    sealed.append(&mut text);
    format!("{SEALED_SCHEME}{}@{place}", URL_SAFE_NO_PAD.encode(sealed))
}

/// The URL that was sealed; one that was not is read as it is.
pub fn open(text: &str, secret: &Secret) -> Result<RedisUrl, String> {
    let Some(rest) = text.strip_prefix(SEALED_SCHEME) else {
        return text.parse();
    };
    let wrong = || "its login was sealed under another secret, or was changed".to_string();
    let (sealed, place) = rest.split_once('@').ok_or_else(wrong)?;
    let mut sealed = URL_SAFE_NO_PAD.decode(sealed).map_err(|_| wrong())?;
    if sealed.len() < NONCE_LEN {
        return Err(wrong());
    }
    let mut text = sealed.split_off(NONCE_LEN);
    let opened =
        sealer(secret).open_in_place(nonce_of(&sealed), Aad::from(place.as_bytes()), &mut text);
    let login = opened.map_err(|_| wrong())?;
    let login = std::str::from_utf8(login).map_err(|_| wrong())?;
    format!("redis://{login}@{place}").parse()
}

fn sealer(secret: &Secret) -> LessSafeKey {
    let key = UnboundKey::new(&AES_256_GCM, &key(secret, b"login"));
    LessSafeKey::new(key.expect("the key is as long as the cipher's"))
}

fn nonce_of(bytes: &[u8]) -> Nonce {
    Nonce::try_assume_unique_for_key(bytes).expect("so many bytes were taken")
}

fn key(secret: &Secret, purpose: &[u8]) -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    let root = Salt::new(HKDF_SHA256, b"larder sealed url 1").extract(secret.expose());
    let parts = [purpose];
    let made = root.expand(&parts, HKDF_SHA256);
    let filled = made.and_then(|made| made.fill(&mut key));
    filled.expect("HKDF gives as many bytes as its hash has");
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.as_bytes()).expect("not empty")
    }

    #[test]
    fn a_sealed_url_shows_nothing_of_its_login_and_opens_under_its_secret_alone() {
        for text in [
            "redis://ann:p%40ss:w@old:6380",
            ":p@ss@old",
            "valkey://ann:x@[::1]:7000",
        ] {
            let url: RedisUrl = text.parse().unwrap();
            let sealed = seal(&url, &secret("one"));
            assert_eq!(sealed, seal(&url, &secret("one")));
            assert!(sealed.ends_with(&format!("@{}", url.addr())), "{sealed}");
            let login = url.login_text().unwrap();
            for part in login.split(':').filter(|part| part.len() > 2) {
                assert!(!sealed.contains(part), "{sealed}");
            }
            let opened = open(&sealed, &secret("one")).unwrap();
            assert_eq!((opened.addr(), &opened.login), (url.addr(), &url.login));
            assert!(open(&sealed, &secret("two")).is_err());
            let elsewhere = sealed.replace(&url.addr(), "thief:6379");
            assert!(open(&elsewhere, &secret("one")).is_err());
            for cut in SEALED_SCHEME.len()..sealed.len() {
                assert!(open(&sealed[..cut], &secret("one")).is_err());
            }
        }
    }

    #[test]
    fn a_url_without_a_login_stays_what_it_is() {
        let url: RedisUrl = "old".parse().unwrap();
        let kept = seal(&url, &secret("one"));
        assert_eq!(kept, "redis://old:6379");
        let opened = open(&kept, &secret("two")).unwrap();
        assert_eq!((opened.addr(), opened.login), (url.addr(), url.login));
    }
}

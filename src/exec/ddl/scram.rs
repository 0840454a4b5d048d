//! SCRAM-SHA-256 verifiers: what is stored in place of a password (RFC 5802, RFC 7677).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};

/// PostgreSQL's number of rounds.
const ROUNDS: u32 = 4096;
const SALT_BYTES: usize = 16;
const BLOCK_BYTES: usize = 64;

fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut block = [0; BLOCK_BYTES];
    if key.len() > BLOCK_BYTES {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let mut inner = Sha256::new_with_prefix(block.map(|b| b ^ 0x36));
    parts.iter().for_each(|part| inner.update(part));
    let mut outer = Sha256::new_with_prefix(block.map(|b| b ^ 0x5c));
    outer.update(inner.finalize());
    outer.finalize().into()
}

fn salted(password: &str, salt: &[u8], rounds: u32) -> [u8; 32] {
    let mut last = hmac(password.as_bytes(), &[salt, &1_u32.to_be_bytes()]);
    let mut out = last;
    for _ in 1..rounds {
        last = hmac(password.as_bytes(), &[&last]);
        out.iter_mut().zip(last).for_each(|(o, l)| *o ^= l);
    }
    out
}

fn verifier_with(password: &str, salt: &[u8], rounds: u32) -> String {
    let salted = salted(password, salt, rounds);
    let stored = Sha256::digest(hmac(&salted, &[b"Client Key"]));
    let server = hmac(&salted, &[b"Server Key"]);
    let text = |bytes: &[u8]| STANDARD.encode(bytes);
    format!("SCRAM-SHA-256${rounds}:{}${}:{}", text(salt), text(&stored), text(&server))
}

/// The verifier of a password; one that is a verifier already stays as it is.
pub(crate) fn verifier(password: &str) -> String {
    if password.starts_with("SCRAM-SHA-256$") && password.matches('$').count() == 2 {
        return password.to_owned();
    }
    let mut salt = [0; SALT_BYTES];
    meridian_base::rng::os_bytes(&mut salt);
    verifier_with(password, &salt, ROUNDS)
}

#[cfg(test)]
mod tests {
    use super::{STANDARD, verifier_with};
    use base64::Engine;

    /// The exchange of RFC 7677 is made with this password and salt; its server key signs the
    /// conversation given there.
    #[test]
    fn a_verifier_matches_the_example_of_the_standard() {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").expect("base64");
        let verifier = verifier_with("pencil", &salt, 4096);
        let (_, server) = verifier.rsplit_once(':').expect("server key");
        let server = STANDARD.decode(server).expect("base64");
        let message = "n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
                       s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,\
                       r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let signature = super::hmac(&server, &[message.as_bytes()]);
        assert_eq!(STANDARD.encode(signature), "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
    }
}

//! The signature of a host's certificate (PROTOCOL.certkeys of OpenSSH).

use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};
use ssh_key::public::KeyData;
use ssh_key::{Algorithm, Certificate, EcdsaCurve, HashAlg};

/// What is wrong with a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SignatureProblem {
    /// It is not the signer's, or of something else.
    Wrong,
    /// It cannot be checked: keys are Ed25519, RSA of 2,048 to 8,192 bits with SHA-2, or ECDSA on the curves P-256 and P-384.
    Unsupported,
}

/// Checks that the signer's key has signed the certificate, of which these are the bytes.
///
/// # Errors
///
/// [`SignatureProblem`] if it has not, or if that cannot be told.
pub(crate) fn check(bytes: &[u8], certificate: &Certificate) -> Result<(), SignatureProblem> {
    let found = certificate.signature();
    let (name, data) = (found.algorithm(), found.as_bytes());
    // The signature is the last field, of two texts after their length, and signs everything before it.
    let length = 4 + name.as_str().len() + 4 + data.len();
    let parts = bytes.len().checked_sub(4 + length).and_then(|end| bytes.split_at_checked(end));
    let (signed, last) = parts.ok_or(SignatureProblem::Wrong)?;
    if !last.starts_with(&(length as u32).to_be_bytes()) {
        return Err(SignatureProblem::Wrong);
    }
    let checked = match (certificate.signature_key(), &name) {
        (KeyData::Ed25519(key), Algorithm::Ed25519) => {
            UnparsedPublicKey::new(&signature::ED25519, key.0).verify(signed, data)
        }
        (KeyData::Rsa(key), Algorithm::Rsa { hash: Some(hash) }) => {
            let parts = key.n.as_positive_bytes().zip(key.e.as_positive_bytes());
            let (n, e) = parts.ok_or(SignatureProblem::Wrong)?;
            let parameters = match hash {
                HashAlg::Sha256 => &signature::RSA_PKCS1_2048_8192_SHA256,
                HashAlg::Sha512 => &signature::RSA_PKCS1_2048_8192_SHA512,
                _ => return Err(SignatureProblem::Unsupported),
            };
            RsaPublicKeyComponents { n, e }.verify(parameters, signed, data)
        }
        (KeyData::Ecdsa(key), Algorithm::Ecdsa { curve }) if key.curve() == *curve => {
            let (parameters, width): (&signature::EcdsaVerificationAlgorithm, usize) = match curve {
                EcdsaCurve::NistP256 => (&signature::ECDSA_P256_SHA256_FIXED, 32),
                EcdsaCurve::NistP384 => (&signature::ECDSA_P384_SHA384_FIXED, 48),
                EcdsaCurve::NistP521 => return Err(SignatureProblem::Unsupported),
            };
            let fixed = fixed_width(data, width).ok_or(SignatureProblem::Wrong)?;
            UnparsedPublicKey::new(parameters, key.as_sec1_bytes()).verify(signed, &fixed)
        }
        _ => return Err(SignatureProblem::Unsupported),
    };
    checked.map_err(|_| SignatureProblem::Wrong)
}

/// The two numbers of an ECDSA signature (RFC 5656, section 3.1.2), each with so many bytes.
fn fixed_width(data: &[u8], width: usize) -> Option<Vec<u8>> {
    let mut fixed = Vec::with_capacity(2 * width);
    let mut rest = data;
    for _ in 0..2 {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let (number, after) = after.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        // A number whose first bit is set has a zero before it.
        let number = &number[number.iter().take_while(|byte| **byte == 0).count()..];
        fixed.resize(fixed.len() + width.checked_sub(number.len())?, 0);
        fixed.extend_from_slice(number);
        rest = after;
    }
    rest.is_empty().then_some(fixed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_changed_bit_anywhere_makes_it_wrong() {
        use ssh_key::PrivateKey;
        use ssh_key::certificate::{Builder, CertType};
        use ssh_key::private::Ed25519Keypair;
        let key = |byte| PrivateKey::from(Ed25519Keypair::from_seed(&[byte; 32]));
        let (authority, host) = (key(1), key(2));
        let mut builder = Builder::new([3; 16], host.public_key(), 0, 1 << 40).unwrap();
        builder.cert_type(CertType::Host).unwrap().key_id("host").unwrap();
        builder.valid_principal("node01").unwrap();
        let certificate = builder.sign(&authority).unwrap();
        let bytes = certificate.to_bytes().unwrap();
        assert_eq!(check(&bytes, &certificate), Ok(()));
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 1;
            // What is no certificate any more is no matter of this check.
            if let Ok(read) = Certificate::from_bytes(&changed) {
                assert!(check(&changed, &read).is_err(), "byte {place}");
            }
        }
    }

    #[test]
    fn numbers_of_a_signature_get_one_width() {
        let number = |bytes: &[u8]| [&(bytes.len() as u32).to_be_bytes()[..], bytes].concat();
        let two = [number(&[0, 0x80, 1]), number(&[7])].concat();
        assert_eq!(fixed_width(&two, 2), Some(vec![0x80, 1, 0, 7]));
        assert_eq!(fixed_width(&two, 1), None);
        assert_eq!(fixed_width(&two[..two.len() - 1], 2), None);
        assert_eq!(fixed_width(&[two.as_slice(), &[0]].concat(), 2), None);
    }
}

//! What tasks of an array are told alike goes over a stream once: whoever hears it keeps it, and of the next ones hears that it is as kept.
//! One such part is kept for each stream, the last one, so that neither side has to say what it has forgotten.

use bytes::Bytes;

use crate::Told;
use crate::v1::{self, CommonPart};

/// What a stream's other end keeps, by who tells it encoded prepares.
#[derive(Debug, Default)]
pub struct ToldLast(Option<Bytes>);

impl ToldLast {
    /// What is to be told: without the part that many have in common, if it is the one that was told last.
    #[must_use]
    pub fn shorten(&mut self, told: Told) -> Told {
        let Told::Prepare { common, mut own } = told else { return told };
        // The one that is held is at its place in memory, so that no other can be there.
        let is_kept = self.0.as_ref().is_some_and(|last| is_same(last, &common));
        own.set_common(if is_kept { CommonPart::AsKept } else { CommonPart::Keep });
        if is_kept {
            return Told::Prepare { common: Bytes::new(), own };
        }
        self.0 = Some(common.clone());
        Told::Prepare { common, own }
    }
}

/// What is kept of the prepares of a stream: by who hears them, or by who tells them as they are.
#[derive(Debug, Default)]
pub struct Kept(Option<(Option<v1::User>, Bytes)>);

/// A prepare is said to be as one before it, and none was to be kept.
#[derive(Debug, thiserror::Error)]
#[error("a prepare lacks what it has in common with one before it, which did not come")]
pub struct NothingKept;

impl Kept {
    /// Makes a prepare that was heard whole.
    ///
    /// # Errors
    ///
    /// [`NothingKept`] if what it lacks was not told before.
    pub fn complete(&mut self, prepare: &mut v1::Prepare) -> Result<(), NothingKept> {
        match prepare.common() {
            CommonPart::Here => {}
            CommonPart::Keep => {
                let first = prepare.work.first().cloned().unwrap_or_default();
                self.0 = Some((prepare.user.clone(), first));
            }
            CommonPart::AsKept => {
                let (user, first) = self.0.as_ref().ok_or(NothingKept)?;
                prepare.user.clone_from(user);
                prepare.work.insert(0, first.clone());
            }
        }
        prepare.set_common(CommonPart::Here);
        Ok(())
    }

    /// Takes out of a prepare what the other end keeps, and has it keep that otherwise.
    pub fn shorten(&mut self, prepare: &mut v1::Prepare) {
        let [first, _] = &prepare.work[..] else { return };
        let is_kept =
            self.0.as_ref().is_some_and(|(user, last)| is_same(last, first) && *user == prepare.user);
        if is_kept {
            prepare.work.remove(0);
            prepare.user = None;
            return prepare.set_common(CommonPart::AsKept);
        }
        self.0 = Some((prepare.user.clone(), first.clone()));
        prepare.set_common(CommonPart::Keep);
    }
}

/// Whether two are the same bytes in memory, which says so at once where they are long.
fn is_same(one: &Bytes, other: &Bytes) -> bool {
    one.as_ptr() == other.as_ptr() && one.len() == other.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn common(name: &str) -> v1::Prepare {
        let user = v1::User { name: name.to_owned(), uid: 7, gid: 8 };
        let mut prepare = v1::Prepare { user: Some(user), ..v1::Prepare::default() };
        prepare.add_work(&v1::Work { job_name: name.to_owned(), ..v1::Work::default() });
        prepare
    }

    fn own(instance: u32) -> v1::Prepare {
        let mut prepare = v1::Prepare { instance, ..v1::Prepare::default() };
        prepare.add_work(&v1::Work { stdout_path: format!("/{instance}"), ..v1::Work::default() });
        prepare
    }

    fn whole(name: &str, instance: u32) -> v1::Prepare {
        let (common, own) = (common(name), own(instance));
        v1::Prepare { user: common.user, work: [common.work, own.work].concat(), ..own }
    }

    fn heard(told: &Told) -> v1::Prepare {
        match told.heard().unwrap().body {
            Some(v1::to_node::Body::Prepare(prepare)) => prepare,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_a_controller_tells_is_heard_whole_whichever_array_it_is_of() {
        let (mut teller, mut hearer) = (ToldLast::default(), Kept::default());
        let arrays = ["ada", "bob"].map(|name| (name, Told::common(&common(name))));
        let order = [0, 0, 0, 1, 1, 0, 1, 1];
        let is_short = order.into_iter().zip(1..).map(|(array, instance)| {
            let (name, common) = &arrays[array];
            // One that was not encoded in parts may come between.
            let plain = Told::from(v1::ToNode { body: Some(v1::to_node::Body::Prepare(own(0))) });
            let mut between = heard(&teller.shorten(plain));
            hearer.complete(&mut between).unwrap();
            assert_eq!(between, own(0));
            let told = teller.shorten(Told::Prepare { common: common.clone(), own: own(instance) });
            let mut prepare = heard(&told);
            let is_short = prepare.user.is_none() && prepare.work.len() == 1;
            hearer.complete(&mut prepare).unwrap();
            assert_eq!(prepare, whole(name, instance));
            is_short
        });
        let is_short: Vec<bool> = is_short.collect();
        assert_eq!(is_short, [false, true, true, false, true, false, false, true]);
    }

    #[test]
    fn what_is_passed_on_is_shorter_if_it_is_of_the_same_user_and_array() {
        let (mut from, mut teller, mut hearer) = (ToldLast::default(), Kept::default(), Kept::default());
        let mut passing = Kept::default();
        let encoded = Told::common(&common("ada"));
        let mut shorter = Vec::new();
        for instance in 1..5 {
            let told = from.shorten(Told::Prepare { common: encoded.clone(), own: own(instance) });
            let mut prepare = heard(&told);
            passing.complete(&mut prepare).unwrap();
            if instance == 3 {
                prepare.user = common("bob").user;
            }
            let expected = prepare.clone();
            teller.shorten(&mut prepare);
            shorter.push(prepare.work.len() == 1);
            hearer.complete(&mut prepare).unwrap();
            assert_eq!(prepare, expected);
        }
        assert_eq!(shorter, [false, true, false, false]);
        // What has no parts is passed on as it is, and what was kept stays.
        let mut single = own(9);
        teller.shorten(&mut single);
        assert_eq!(single, own(9));
    }

    #[test]
    fn what_was_never_told_is_not_made_up() {
        let mut prepare = own(1);
        prepare.set_common(CommonPart::AsKept);
        assert!(Kept::default().complete(&mut prepare).is_err());
        assert_eq!(prepare.work.len(), 1);
    }
}

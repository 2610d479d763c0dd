//! What helps where the scratch folder cannot be used: more room is one remedy of several. Pure.

use std::{error::Error, io, iter::successors};

/// EIO, for which the standard library has no kind.
const INPUT_OUTPUT: i32 = 5;

/// What somebody can do about an error of scratch, to follow its words; nothing where the error does not tell. `room` says how much
/// is needed, and where that is set.
pub(crate) fn remedy(error: &(dyn Error + 'static), room: &str) -> String {
    let helps = causes(error).find_map(|cause| helps(cause.downcast_ref::<io::Error>()?, room));
    helps.map(|helps| format!("; {helps}")).unwrap_or_default()
}

/// An error, what caused it, and so on. What an error of the standard library wraps is one of them, although it does not say so.
pub(crate) fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    successors(Some(error), |cause: &&'a (dyn Error + 'static)| {
        let cause: &'a (dyn Error + 'static) = *cause;
        match cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => cause.source(),
        }
    })
}

fn helps<'a>(cause: &io::Error, room: &'a str) -> Option<&'a str> {
    use io::ErrorKind;
    Some(match cause.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => room,
        ErrorKind::PermissionDenied => {
            "its pod may not write to its volume scratch: look for what changes pods or their securityContext in this cluster"
        }
        ErrorKind::ReadOnlyFilesystem => DISK,
        _ if cause.raw_os_error() == Some(INPUT_OUTPUT) => DISK,
        _ => return None,
    })
}

/// Of a disk that fails, and that its kernel may have made read-only for that.
const DISK: &str = "the disk of the pod's node fails: keep pods from that node until it is mended";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive;

    #[test]
    fn room_is_the_remedy_where_room_is_lacking_and_nowhere_else() {
        let (no_room, quota, too_large) = (28, 122, 27);
        let (denied, not_permitted, read_only, broken, too_many_files) = (13, 1, 30, 5, 24);
        for (number, helps) in [
            (no_room, "; more room"),
            (quota, "; more room"),
            (too_large, "; more room"),
            (denied, "securityContext"),
            (not_permitted, "securityContext"),
            (read_only, "disk of the pod's node"),
            (broken, "disk of the pod's node"),
        ] {
            let source = io::Error::from_raw_os_error(number);
            let said = remedy(&source, "more room");
            assert!(said.contains(helps), "{source}: {said}");
            assert_eq!(said.contains("room"), helps.contains("room"), "{source}: {said}");
            // Whatever says what was tried stands before it.
            let action = "write x".into();
            let error = archive::Error::Io { action, source };
            assert_eq!(remedy(&error, "more room"), said);
            // Whatever wraps it.
            let wrapped = io::Error::other(io::Error::other(error));
            assert_eq!(remedy(&wrapped, "more room"), said);
        }
        assert_eq!(remedy(&io::Error::from_raw_os_error(too_many_files), "more room"), "");
        assert_eq!(remedy(&archive::Error::Damaged { why: "w".into() }, "more room"), "");
    }
}

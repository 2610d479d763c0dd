use super::*;

#[test]
fn a_volume_that_is_away_is_asked_again_and_what_is_ours_alone_goes() {
    let unreadable = |passing| Stored::Unreadable {
        why: "w".into(),
        passing,
    };
    let digest = Digest {
        sha256: "s".into(),
        bytes: 1,
    };
    let judged = |stored| stays(stored, "k".into());
    assert!(judged(unreadable(true)).is_err_and(|failure| failure.is_passing()));
    assert!(matches!(judged(Stored::Ours(digest)), Ok(None)));
    assert!(matches!(judged(Stored::Absent), Ok(Some(Removed::Gone))));
    for stored in [unreadable(false), Stored::Damaged { why: "w".into() }] {
        assert!(matches!(judged(stored), Ok(Some(Removed::Left { .. }))));
    }
    assert!(matches!(
        judged(Stored::Foreign { why: "w".into() }),
        Ok(Some(Removed::Foreign))
    ));
}

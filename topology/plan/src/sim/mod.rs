//! tmp
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code)]
pub(crate) enum Planted {
    Nothing,
    TargetFirst,
    SkipLetGo,
    ActBeforeRecord,
    ForgetPastRuns,
}

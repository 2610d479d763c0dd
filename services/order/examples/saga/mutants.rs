//! Mistakes that somebody could make, one at a time: the model has to find each of them.

/// One mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// Order: a key is lost with Redis, and the client's retry makes a second order.
    KeepsKeysInRedis,
    /// Order: money is asked for before stock is set aside.
    ChargesBeforeStockIsReserved,
    /// Order: an expired order gives its stock back and forgets its charge.
    ReleasesWithoutAVoid,
    /// Order: CANCELLED as soon as one of inventory and payment has answered.
    CancelsOnOneAnswer,
    /// Order: a late charge revives what is being cancelled.
    ConfirmsWhatIsBeingCancelled,
    /// Order: a declined order keeps its stock.
    ForgetsTheStockOfADecline,
    /// Order: what was not answered is never asked again.
    NeverAsksAgain,
    /// Order: the announcement is not part of the transaction that makes it true.
    WritesTheOutboxAfterTheCommit,
    /// Inventory: reads the stock, then writes what is left of it.
    ReservesInTwoSteps,
    /// Inventory: a release without a reservation leaves nothing that the late reservation could find.
    LeavesNoTombstone,
    /// Payment: a payment that is not known was not charged.
    VoidsWithoutAskingTheProcessor,
    /// Payment: a void does not wait for the answer to the charge.
    VoidsWhileTheOutcomeIsOpen,
    /// Payment: the key of a charge is drawn and not made of the order's id.
    DrawsTheKeyOfACharge,
    /// The processor: the same key is charged as often as it is asked.
    TheProcessorForgetsKeys,
    /// Relay: marked, then published.
    MarksBeforeItPublishes,
    /// Consumer: acknowledged, then handled.
    AcknowledgesBeforeTheCommit,
    /// Consumer: what was handled is not remembered.
    CountsWithoutAnInbox,
    /// Streams: cut to a length, read or not, and nobody is told.
    CutsWhatNobodyHasRead,
}

impl Mutant {
    /// Every mistake.
    pub const ALL: [Self; 18] = [
        Self::KeepsKeysInRedis,
        Self::ChargesBeforeStockIsReserved,
        Self::ReleasesWithoutAVoid,
        Self::CancelsOnOneAnswer,
        Self::ConfirmsWhatIsBeingCancelled,
        Self::ForgetsTheStockOfADecline,
        Self::NeverAsksAgain,
        Self::WritesTheOutboxAfterTheCommit,
        Self::ReservesInTwoSteps,
        Self::LeavesNoTombstone,
        Self::VoidsWithoutAskingTheProcessor,
        Self::VoidsWhileTheOutcomeIsOpen,
        Self::DrawsTheKeyOfACharge,
        Self::TheProcessorForgetsKeys,
        Self::MarksBeforeItPublishes,
        Self::AcknowledgesBeforeTheCommit,
        Self::CountsWithoutAnInbox,
        Self::CutsWhatNobodyHasRead,
    ];
}

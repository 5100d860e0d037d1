//! The steps of the gate, in their order.

/// One step. `check` runs them from the first to the last; a test holds a row for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Step {
    /// 1. Framing and headers.
    Framing,
    /// 2. Host.
    Host,
    /// 3. Target and path.
    Target,
    /// 4. Method.
    Method,
    /// 5. CORS preflight: answered here, never refused.
    Preflight,
    /// 6. Route.
    Route,
    /// 7. Token extraction.
    Extraction,
    /// 8. Authentication.
    Authentication,
    /// 9. Provider, path and method of the grant.
    Scope,
    /// 10. Origin.
    Origin,
    /// 11. Body type and size.
    Body,
    /// 12. Model.
    Model,
    /// 13. Request rate.
    Rate,
    /// 14. Concurrency.
    Concurrency,
    /// 15. Budget reservation: nothing yet.
    Budget,
    /// 16. keygate's own endpoints.
    Own,
    /// 17. Key selection and swap.
    Key,
}

impl Step {
    /// Every step, in order.
    pub const ALL: [Self; 17] = [
        Self::Framing,
        Self::Host,
        Self::Target,
        Self::Method,
        Self::Preflight,
        Self::Route,
        Self::Extraction,
        Self::Authentication,
        Self::Scope,
        Self::Origin,
        Self::Body,
        Self::Model,
        Self::Rate,
        Self::Concurrency,
        Self::Budget,
        Self::Own,
        Self::Key,
    ];

    /// Whether the step can refuse a request today. A provider has its one key, or the
    /// configuration is refused.
    pub const fn refuses(self) -> bool {
        !matches!(self, Self::Preflight | Self::Budget | Self::Key)
    }
}

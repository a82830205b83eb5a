//! The one table of error codes: each with its status, its message, and what an agent can do.
//!
//! Answers, the errors page and the OpenAPI document are made from it. Codes and next actions never
//! change spelling; a new one is added to the contract first (contract §2).

use serde::Serialize;

/// What an agent does next. Spelled in the contract, §2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[expect(
    missing_docs,
    reason = "the names are the contract's and say what to do"
)]
pub enum NextAction {
    CompletePaymentAndRetry,
    SendApiKey,
    RecoverAccount,
    RegisterAgent,
    RequestNewChallenge,
    FixRequest,
    RetryOriginalRequest,
    RetrySameRequest,
    RetryWithRelayRequestId,
    StartNewPayment,
    AwaitRefund,
    UseNewIdempotencyKey,
    WaitAndRetry,
    PurchaseFirst,
    LinkAnotherWallet,
    LinkSolanaWallet,
    LinkEvmWallet,
    RetryWithSolanaPaymentRoute,
    TryOtherOriginCurrency,
    BrowseListings,
    ContactSupport,
}

impl NextAction {
    /// Every action, in the contract's order.
    pub const ALL: [Self; 21] = [
        Self::CompletePaymentAndRetry,
        Self::SendApiKey,
        Self::RecoverAccount,
        Self::RegisterAgent,
        Self::RequestNewChallenge,
        Self::FixRequest,
        Self::RetryOriginalRequest,
        Self::RetrySameRequest,
        Self::RetryWithRelayRequestId,
        Self::StartNewPayment,
        Self::AwaitRefund,
        Self::UseNewIdempotencyKey,
        Self::WaitAndRetry,
        Self::PurchaseFirst,
        Self::LinkAnotherWallet,
        Self::LinkSolanaWallet,
        Self::LinkEvmWallet,
        Self::RetryWithSolanaPaymentRoute,
        Self::TryOtherOriginCurrency,
        Self::BrowseListings,
        Self::ContactSupport,
    ];

    /// The public name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CompletePaymentAndRetry => "complete_payment_and_retry",
            Self::SendApiKey => "send_api_key",
            Self::RecoverAccount => "recover_account",
            Self::RegisterAgent => "register_agent",
            Self::RequestNewChallenge => "request_new_challenge",
            Self::FixRequest => "fix_request",
            Self::RetryOriginalRequest => "retry_original_request",
            Self::RetrySameRequest => "retry_same_request",
            Self::RetryWithRelayRequestId => "retry_with_relay_request_id",
            Self::StartNewPayment => "start_new_payment",
            Self::AwaitRefund => "await_refund",
            Self::UseNewIdempotencyKey => "use_new_idempotency_key",
            Self::WaitAndRetry => "wait_and_retry",
            Self::PurchaseFirst => "purchase_first",
            Self::LinkAnotherWallet => "link_another_wallet",
            Self::LinkSolanaWallet => "link_solana_wallet",
            Self::LinkEvmWallet => "link_evm_wallet",
            Self::RetryWithSolanaPaymentRoute => "retry_with_solana_payment_route",
            Self::TryOtherOriginCurrency => "try_other_origin_currency",
            Self::BrowseListings => "browse_listings",
            Self::ContactSupport => "contact_support",
        }
    }
}

/// What the table says of a code.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// HTTP status.
    pub status: u16,
    /// The code's name.
    pub name: &'static str,
    /// The usual message; a caller may say it more exactly.
    pub message: &'static str,
    /// Whether trying again, after the next action, can succeed.
    pub retryable: bool,
    /// What to do next.
    pub next_action: NextAction,
    /// The next action in a sentence.
    pub summary: &'static str,
    /// Header or field names to keep for the retry.
    pub preserve: &'static [&'static str],
    /// Header or field names to drop for the retry.
    pub discard: &'static [&'static str],
    /// Usual wait before the retry, in seconds.
    pub retry_after_seconds: Option<u32>,
}

macro_rules! codes {
    ($($variant:ident = $name:literal, $status:literal, $message:literal, $retryable:literal,
       $action:ident, $summary:literal, [$($keep:literal),*], [$($drop:literal),*], $after:expr;)*) => {
        /// A public error code (contract §2).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Code {
            $(#[doc = $message] $variant,)*
        }

        impl Code {
            /// Every code, in the order of the contract's table.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// What the table says of it.
            pub const fn entry(self) -> Entry {
                match self {
                    $(Self::$variant => Entry {
                        status: $status,
                        name: $name,
                        message: $message,
                        retryable: $retryable,
                        next_action: NextAction::$action,
                        summary: $summary,
                        preserve: &[$($keep),*],
                        discard: &[$($drop),*],
                        retry_after_seconds: $after,
                    },)*
                }
            }
        }
    };
}

codes! {
    ValidationError = "VALIDATION_ERROR", 400, "The request has fields that are missing or not valid.", false,
        FixRequest, "Correct every field named in error.details.fields and send the request again.", [], [], None;
    InvalidJson = "INVALID_JSON", 400, "The body is not valid JSON.", false,
        FixRequest, "Send one JSON value in UTF-8, nested at most 128 levels deep.", [], [], None;
    PowInvalid = "POW_INVALID", 400, "The proof of work does not solve the challenge.", true,
        FixRequest, "Find a pow_nonce such that the SHA-256 of challenge + pow_nonce begins with the wanted zeros, and send the request again.", ["nonce"], ["pow_nonce"], None;
    OriginCurrencyUnsupported = "ORIGIN_CURRENCY_UNSUPPORTED", 400, "This origin currency is not offered.", false,
        TryOtherOriginCurrency, "Send X-Crochet-Origin-Currency with one of SOL, USDC_SOL, ETH, USDC.", [], ["X-Crochet-Origin-Currency"], None;
    PaymentWalletRequired = "PAYMENT_WALLET_REQUIRED", 400, "Paying in this currency needs an active wallet of its chain, where refunds go.", false,
        LinkAnotherWallet, "Link a wallet of that chain, or pay in a currency of a chain you have a wallet on.", [], [], None;
    PaymentRouteMinimumNotMet = "PAYMENT_ROUTE_MINIMUM_NOT_MET", 400, "This payment route cannot support the listing's low per-call price.", true,
        RetryWithSolanaPaymentRoute, "Retry with X-Crochet-Origin-Currency: SOL, which carries any price.", [], ["X-Crochet-Origin-Currency", "Idempotency-Key"], None;
    ListingNotPerCall = "LISTING_NOT_PER_CALL", 400, "This listing is not sold per call.", false,
        BrowseListings, "Free listings are used as their connection_instructions say; find per_call listings with GET /listings?pricing_model=per_call.", [], [], None;
    EndpointUrlForbidden = "ENDPOINT_URL_FORBIDDEN", 400, "This endpoint URL is not allowed.", false,
        FixRequest, "Use https on an allowed port, without credentials or fragment, at a host whose every address is public.", [], [], None;

    Unauthorized = "UNAUTHORIZED", 401, "This route needs a valid credential.", false,
        SendApiKey, "Send Authorization: Bearer with your am_k_ key.", [], [], None;
    InvalidApiKey = "INVALID_API_KEY", 401, "This API key is unknown, revoked or expired.", false,
        RecoverAccount, "Prove your wallet at POST /auth/recover to receive a fresh key.", [], ["Authorization"], None;
    InvalidSignature = "INVALID_SIGNATURE", 401, "The signature is not this wallet's over this message.", true,
        FixRequest, "Sign the challenge's exact message: EIP-191 personal_sign for EVM, ed25519 over its UTF-8 bytes for Solana.", ["nonce"], ["signature"], None;
    ChallengeInvalid = "CHALLENGE_INVALID", 401, "This challenge is unknown, used, expired, or was given for something else.", true,
        RequestNewChallenge, "Ask for a new challenge, sign it and send the request again.", [], ["nonce", "signature", "pow_nonce"], None;
    InvalidCredentials = "INVALID_CREDENTIALS", 401, "The e-mail address or the password is wrong.", true,
        FixRequest, "Sign in with the right e-mail address and password.", [], [], None;

    PaymentRequired = "PAYMENT_REQUIRED", 402, "Complete payment, then retry this gateway call with X-Crochet-Relay-Request-Id.", true,
        CompletePaymentAndRetry, "Pay data.payment.requirements, then send the same body again with X-Crochet-Relay-Request-Id.", ["Authorization", "Content-Type", "body"], [], None;
    PaymentFailed = "PAYMENT_FAILED", 402, "The provider could not complete that payment. Here is a fresh one.", true,
        CompletePaymentAndRetry, "Pay the new data.payment, then send the same body again with its relay_request_id.", ["Authorization", "Content-Type", "body"], ["X-Crochet-Relay-Request-Id"], None;

    Forbidden = "FORBIDDEN", 403, "You may not do this.", false,
        FixRequest, "Use a credential that owns what you want to change.", [], [], None;
    CannotBuyOwnListing = "CANNOT_BUY_OWN_LISTING", 403, "You cannot buy your own listing.", false,
        BrowseListings, "Call another seller's listing, or test your endpoint with POST /listings/:id/endpoint/test.", [], [], None;
    CannotReviewOwnListing = "CANNOT_REVIEW_OWN_LISTING", 403, "You cannot review your own listing.", false,
        BrowseListings, "Review listings of other sellers that you have bought from.", [], [], None;
    NoQualifyingPurchase = "NO_QUALIFYING_PURCHASE", 403, "A review needs a delivered call on this listing within the last 30 days.", false,
        PurchaseFirst, "Buy a call on this listing, then review it.", [], [], None;
    HumanSessionRequired = "HUMAN_SESSION_REQUIRED", 403, "This route is for signed-in people.", false,
        FixRequest, "Sign in at POST /auth/login and send the session cookie.", [], [], None;
    AgentRequired = "AGENT_REQUIRED", 403, "This route is for agents.", false,
        SendApiKey, "Send Authorization: Bearer with an agent's am_k_ key.", [], [], None;
    OriginForbidden = "ORIGIN_FORBIDDEN", 403, "This request comes from a foreign origin.", false,
        FixRequest, "Send the request from Crochet's own origin.", [], [], None;
    RouteRestricted = "ROUTE_RESTRICTED", 403, "The payment provider does not serve this route to this wallet.", false,
        ContactSupport, "This wallet cannot pay through this provider.", [], [], None;

    NotFound = "NOT_FOUND", 404, "There is nothing here.", false,
        FixRequest, "Check the path against the API reference.", [], [], None;
    ListingNotFound = "LISTING_NOT_FOUND", 404, "There is no such listing.", false,
        BrowseListings, "Find listings with GET /listings.", [], [], None;
    AgentNotFound = "AGENT_NOT_FOUND", 404, "There is no such agent.", false,
        RegisterAgent, "Check the id; a new wallet registers at POST /register.", [], [], None;
    WalletNotFound = "WALLET_NOT_FOUND", 404, "You have no such wallet.", false,
        FixRequest, "List your wallets with GET /me/wallets.", [], [], None;
    ApiKeyNotFound = "API_KEY_NOT_FOUND", 404, "You have no such key.", false,
        FixRequest, "List your keys with GET /api-keys.", [], [], None;
    RequestNotFound = "REQUEST_NOT_FOUND", 404, "You have no such gateway request.", false,
        FixRequest, "List yours with GET /gateway-requests.", [], [], None;
    RelayRequestNotFound = "RELAY_REQUEST_NOT_FOUND", 404, "You have no such payment.", false,
        StartNewPayment, "Call the gateway without X-Crochet-Relay-Request-Id to receive payment requirements.", ["body"], ["X-Crochet-Relay-Request-Id"], None;

    MethodNotAllowed = "METHOD_NOT_ALLOWED", 405, "This path does not take this method.", false,
        FixRequest, "Use a method that the Allow header names.", [], [], None;
    BodyTooLarge = "BODY_TOO_LARGE", 413, "The body is larger than this route takes.", false,
        FixRequest, "Send a smaller body.", [], [], None;
    UnsupportedMediaType = "UNSUPPORTED_MEDIA_TYPE", 415, "Send the body as application/json, without a Content-Encoding.", false,
        FixRequest, "Set Content-Type: application/json and send the body unencoded.", [], ["Content-Encoding"], None;
    HeadersTooLarge = "HEADERS_TOO_LARGE", 431, "The headers are larger than this server takes.", false,
        FixRequest, "Send fewer or shorter headers.", [], [], None;

    WalletAlreadyRegistered = "WALLET_ALREADY_REGISTERED", 409, "This wallet is registered already.", false,
        RecoverAccount, "Prove the wallet at POST /auth/recover to receive a fresh key.", [], [], None;
    EmailAlreadyRegistered = "EMAIL_ALREADY_REGISTERED", 409, "This e-mail address is registered already.", false,
        FixRequest, "Sign in at POST /auth/login.", [], [], None;
    WalletLastRecovery = "WALLET_LAST_RECOVERY", 409, "This would leave the profile without an active recovery wallet.", false,
        LinkAnotherWallet, "Link another wallet that can recover the profile, then change this one.", [], [], None;
    ListingNotActive = "LISTING_NOT_ACTIVE", 409, "This listing is suspended.", false,
        BrowseListings, "Find another listing with GET /listings.", [], [], None;
    RelayRequestMismatch = "RELAY_REQUEST_MISMATCH", 409, "This payment was quoted for another listing or another body. Nothing was consumed.", true,
        RetryOriginalRequest, "Send the exact body to the listing that the payment was quoted for.", ["X-Crochet-Relay-Request-Id"], [], None;
    GatewayRequestInProgress = "GATEWAY_REQUEST_IN_PROGRESS", 409, "This request is being forwarded now.", true,
        WaitAndRetry, "Wait, then send the same request again: the answer is replayed without a charge.", ["X-Crochet-Relay-Request-Id", "Idempotency-Key", "body"], [], Some(1);
    ReviewAlreadyExists = "REVIEW_ALREADY_EXISTS", 409, "You have reviewed this listing already.", false,
        BrowseListings, "Each buyer reviews a listing once.", [], [], None;
    AgentAlreadyClaimed = "AGENT_ALREADY_CLAIMED", 409, "This agent is claimed already.", false,
        ContactSupport, "An agent has one human operator.", [], [], None;
    RelayRequestClosed = "RELAY_REQUEST_CLOSED", 409, "This payment is closed: its refund is due or done.", false,
        AwaitRefund, "Await the refund; to call again, start a new payment.", [], ["X-Crochet-Relay-Request-Id"], None;

    RelayRequestExpired = "RELAY_REQUEST_EXPIRED", 410, "This payment's time is over and the provider knows no deposit.", true,
        StartNewPayment, "Call again without X-Crochet-Relay-Request-Id to receive new payment requirements.", ["body"], ["X-Crochet-Relay-Request-Id"], None;
    ResponseNoLongerStored = "RESPONSE_NO_LONGER_STORED", 410, "This call was delivered; its answer is no longer stored.", false,
        StartNewPayment, "The call was delivered and billed once; call again without X-Crochet-Relay-Request-Id to buy another.", [], ["X-Crochet-Relay-Request-Id"], None;

    IdempotencyKeyReused = "IDEMPOTENCY_KEY_REUSED", 422, "This Idempotency-Key stands for another request.", false,
        UseNewIdempotencyKey, "Use a new Idempotency-Key for another listing, currency or body.", ["body"], ["Idempotency-Key"], None;
    RateLimited = "RATE_LIMITED", 429, "Too many requests.", true,
        WaitAndRetry, "Wait as long as Retry-After says, then send the request again.", [], [], Some(1);

    InternalError = "INTERNAL_ERROR", 500, "Something went wrong on our side.", true,
        WaitAndRetry, "Send the same request again; if it keeps failing, contact support with the X-Request-Id.", ["X-Crochet-Relay-Request-Id", "Idempotency-Key", "body"], [], Some(1);
    SellerError = "SELLER_ERROR", 502, "The seller's service failed. You were not charged for this attempt.", true,
        RetrySameRequest, "Your payment stays good: send the same body again with the same X-Crochet-Relay-Request-Id.", ["X-Crochet-Relay-Request-Id", "body"], [], None;
    SellerUnreachable = "SELLER_UNREACHABLE", 502, "The seller's service could not be reached. No attempt was used.", true,
        RetrySameRequest, "Your payment stays good: send the same body again with the same X-Crochet-Relay-Request-Id.", ["X-Crochet-Relay-Request-Id", "body"], [], Some(2);
    SellerInvalidResponse = "SELLER_INVALID_RESPONSE", 502, "The seller's service broke off or answered what is not HTTP. You were not charged for this attempt.", true,
        RetrySameRequest, "Your payment stays good: send the same body again with the same X-Crochet-Relay-Request-Id.", ["X-Crochet-Relay-Request-Id", "body"], [], None;
    SellerResponseTooLarge = "SELLER_RESPONSE_TOO_LARGE", 502, "The seller's answer is larger than its listing allows. You were not charged for this attempt.", true,
        RetrySameRequest, "Your payment stays good: send the same body again with the same X-Crochet-Relay-Request-Id.", ["X-Crochet-Relay-Request-Id", "body"], [], None;
    SellerUnavailable = "SELLER_UNAVAILABLE", 503, "The seller cannot be served right now. Nothing was consumed.", true,
        WaitAndRetry, "Wait as long as Retry-After says, then send the same request again.", ["X-Crochet-Relay-Request-Id", "Idempotency-Key", "body"], [], Some(5);
    PaymentProviderUnavailable = "PAYMENT_PROVIDER_UNAVAILABLE", 503, "The payment provider cannot be asked right now. Nothing was consumed.", true,
        WaitAndRetry, "Wait as long as Retry-After says, then send the same request again.", ["X-Crochet-Relay-Request-Id", "Idempotency-Key", "body"], [], Some(2);
    ServiceUnavailable = "SERVICE_UNAVAILABLE", 503, "Crochet cannot complete this right now. Nothing is lost.", true,
        RetrySameRequest, "Send the same request again, with the same X-Crochet-Relay-Request-Id if it had one.", ["X-Crochet-Relay-Request-Id", "Idempotency-Key", "body"], [], Some(1);
    SellerTimeout = "SELLER_TIMEOUT", 504, "The seller's service did not answer in time. You were not charged for this attempt.", true,
        RetrySameRequest, "Your payment stays good: send the same body again with the same X-Crochet-Relay-Request-Id.", ["X-Crochet-Relay-Request-Id", "body"], [], None;
}

impl Code {
    /// The public name.
    pub const fn as_str(self) -> &'static str {
        self.entry().name
    }

    /// The HTTP status.
    pub const fn status(self) -> u16 {
        self.entry().status
    }
}

impl Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_code_is_spelled_once_and_has_a_status_of_failure() {
        let names: HashSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(names.len(), Code::ALL.len());
        for code in Code::ALL {
            let entry = code.entry();
            assert!((400..600).contains(&entry.status));
            assert!(
                entry
                    .name
                    .bytes()
                    .all(|b| b.is_ascii_uppercase() || b == b'_')
            );
            let action = serde_json::to_value(entry.next_action).unwrap();
            assert_eq!(action, entry.next_action.as_str());
            assert!(NextAction::ALL.contains(&entry.next_action));
        }
    }
}

//! The envelope of a delivered call, for the API document. The gateway writes it; this room stores its bytes.

use crochet_shared::envelope::{Amount, Fees};
use crochet_shared::id::RequestId;
use serde_json::Value;
use utoipa::ToSchema;

/// What a paid call delivers (seed, "Gateway success").
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "read by the API document")]
pub struct Delivered {
    request_id: RequestId,
    /// Always true: what is delivered is paid for.
    #[schema(example = true)]
    billable: bool,
    charged_amount: Amount,
    fees: Fees,
    /// The seller's own status.
    #[schema(minimum = 200, maximum = 499, example = 200)]
    seller_status_code: u16,
    /// What the seller answered, as `seller_response_encoding` says.
    #[schema(example = json!({"celsius": 21}))]
    seller_response: Value,
    /// `json` as it stands, `text` as a string, `base64` for any other bytes.
    #[schema(extensions(("x-one-of" = json!(["json", "text", "base64"]))))]
    seller_response_encoding: String,
    #[schema(example = "application/json")]
    seller_content_type: Option<String>,
    #[schema(example = "gzip")]
    seller_content_encoding: Option<String>,
}

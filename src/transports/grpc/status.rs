//! Errors as gRPC has them: a code, a message, and `google.rpc` details that say what a program needs to know.

use runtime_api::{Delivery, ErrorCode, Origin};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// Who defines the reasons in `google.rpc.ErrorInfo`: they are the names of our table of error codes, in upper case (AIP-193).
const DOMAIN: &str = "twinway";

/// What else is known of an error.
#[derive(Debug, Clone, Copy)]
pub(super) enum About<'a> {
    /// Nothing.
    Nothing,
    /// A field of the request is wrong.
    Field(&'a str),
    /// A resource is not there: its kind, and what it was called.
    Resource(&'a str, &'a str),
}

/// An error of a request that had no effect.
pub(super) fn status(code: ErrorCode, origin: Origin, message: &str, about: About<'_>) -> Status {
    let row = code.row();
    let metadata = [("origin", origin.as_str()), ("delivery", Delivery::NotSent.as_str())];
    let metadata = metadata.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let mut details = ErrorDetails::with_error_info(row.name.to_uppercase(), DOMAIN, metadata);
    match about {
        About::Nothing => {}
        About::Field(field) => drop(details.add_bad_request_violation(field, message)),
        About::Resource(kind, name) => drop(details.set_resource_info(kind, name, "", message)),
    }
    Status::with_error_details(Code::from_i32(row.grpc), message, details)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_says_its_reason_and_what_it_is_about() {
        let unknown =
            status(ErrorCode::UnknownName, Origin::Caller, "there is no peer `far`", About::Resource("twinway.peer", "far"));
        let wrong = status(ErrorCode::InvalidParams, Origin::Caller, "not a token", About::Field("page_token"));

        let details = unknown.get_error_details();
        assert_eq!(unknown.code(), Code::NotFound);
        assert_eq!(details.error_info().unwrap().reason, "UNKNOWN_NAME");
        assert_eq!(details.error_info().unwrap().metadata["delivery"], "not_sent");
        assert_eq!(details.resource_info().unwrap().resource_name, "far");
        assert_eq!(wrong.code(), Code::InvalidArgument);
        assert_eq!(wrong.get_error_details().bad_request().unwrap().field_violations[0].field, "page_token");
    }
}

//! The JSON Schema of the configuration, for editors.

use schemars::{Schema, schema_for};

use super::Config;

/// The schema. `deploy/config.schema.json` is its printed copy.
#[must_use]
pub fn schema() -> Schema {
    schema_for!(Config)
}

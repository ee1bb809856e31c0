//! What users see when they write tasks; see `ui.rs`.

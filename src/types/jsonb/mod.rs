//! `jsonb` in binary form.

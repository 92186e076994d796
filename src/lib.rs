//! ClientGrant operator.

//! Makes the certificates that [`lb_tls`] believes.
//!
//! An [`Authority`] signs, a [`Folder`] keeps it and what it has signed as files. A crate of its own, so that the daemons carry
//! nothing that could make a certificate; used by `lbctl pki` and by tests.

mod authority;
mod folder;

pub use self::{
    authority::{Authority, AuthorityError, Issued},
    folder::{AUTHORITY_LIFETIME, Folder, FolderError, LIFETIME, RENEW_WITHIN, choice},
};

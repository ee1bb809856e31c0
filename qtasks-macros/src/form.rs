//! The rules for a signature: what no worker could call, and what cannot be stored.

use quote::ToTokens as _;
use syn::{GenericParam, Lifetime, Safety, Signature, Type, TypeImplTrait, TypeReference, visit::Visit};

use crate::{
    Errors,
    types::{compact, last_segment, ungrouped},
};

/// The rules for everything of a signature but its parameters and its return type.
pub(crate) fn check_form(signature: &Signature, errors: &mut Errors) {
    let Signature { constness, safety, abi, generics, variadic, .. } = signature;
    for param in &generics.params {
        let message = match param {
            GenericParam::Lifetime(_) => "a task cannot borrow, since its arguments are stored: leave the lifetime out",
            _ => "a task cannot be generic, since its arguments are stored: write a task for each type",
        };
        errors.at(param, message);
    }
    if let Some(clause) = &generics.where_clause {
        errors.at(clause, "a task cannot have a `where` clause, since it cannot be generic: leave it out");
    }
    if let Some(constness) = constness {
        errors.at(constness, "a task cannot be `const`: leave it out");
    }
    if let Safety::Unsafe(unsafety) = safety {
        errors.at(unsafety, "a task cannot be `unsafe`, since a worker calls it: use an `unsafe` block in its body");
    }
    if let Some(abi) = abi {
        errors.at(abi, "a task cannot be `extern`: leave it out");
    }
    if let Some(variadic) = variadic {
        errors.at(variadic, "a task has a fixed number of parameters: take a `Vec<T>`");
    }
}

/// What a type is used for.
#[derive(Clone, Copy)]
pub(crate) enum Use {
    Parameter,
    Return,
}

/// Whether values of `ty` can be stored, and `ty` can be named in the expansion.
pub(crate) fn check_type(ty: &Type, used: Use, errors: &mut Errors) -> bool {
    let before = errors.0.len();
    StorableType { used, errors }.visit_type(ty);
    errors.0.len() == before
}

struct StorableType<'a> {
    used: Use,
    errors: &'a mut Errors,
}

impl<'ast> Visit<'ast> for StorableType<'_> {
    fn visit_type_reference(&mut self, reference: &'ast TypeReference) {
        let owned = owned(&reference.elem);
        let message = match self.used {
            Use::Parameter => format!("a task cannot borrow its arguments, since they are stored: take {owned}"),
            Use::Return => format!("a task cannot return what it borrows, since its result is stored: return {owned}"),
        };
        self.errors.at(reference, message);
    }

    fn visit_type_impl_trait(&mut self, opaque: &'ast TypeImplTrait) {
        self.errors.at(
            opaque,
            match self.used {
                Use::Parameter => {
                    "the arguments of a task are stored, and their types need names: write one for `impl Trait`"
                }
                Use::Return => "the result of a task is stored, and its type needs a name: write one for `impl Trait`",
            },
        );
    }

    fn visit_lifetime(&mut self, lifetime: &'ast Lifetime) {
        if lifetime.ident != "static" {
            self.errors
                .at(lifetime, "what a task takes and returns is stored, so it cannot borrow: name an owned type");
        }
    }
}

/// What to take instead of a reference to `ty`.
fn owned(ty: &Type) -> String {
    let ty = ungrouped(ty);
    let name = last_segment(ty).map(|last| last.ident.to_string());
    match (ty, name.as_deref()) {
        (Type::Slice(slice), _) => format!("`Vec<{}>`", compact(&slice.elem.to_token_stream())),
        (Type::TraitObject(_), _) => "a type with a name".to_owned(),
        (_, Some("str")) => "`String`".to_owned(),
        (_, Some("Path")) => "`PathBuf`".to_owned(),
        (other, _) => format!("`{}`", compact(&other.to_token_stream())),
    }
}

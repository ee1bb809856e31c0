//! What can be read from a type as it is written.

use proc_macro2::TokenStream;
use syn::{GenericArgument, PathArguments, PathSegment, Type};

/// Tokens as text, with the spaces left out that a path does not need.
pub(crate) fn compact(tokens: &TokenStream) -> String {
    let spaced = tokens.to_string();
    let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let mut text = String::new();
    let mut chars = spaced.chars().peekable();
    while let Some(c) = chars.next() {
        if c != ' ' || (is_word(text.chars().last()) && is_word(chars.peek().copied())) || text.ends_with(',') {
            text.push(c);
        }
    }
    text
}

/// Takes off parentheses, and the invisible delimiters around a type that a `macro_rules!` has passed on.
pub(crate) fn ungrouped(ty: &Type) -> &Type {
    match ty {
        Type::Group(group) => ungrouped(&group.elem),
        Type::Paren(paren) => ungrouped(&paren.elem),
        other => other,
    }
}

pub(crate) fn last_segment(ty: &Type) -> Option<&PathSegment> {
    match ungrouped(ty) {
        Type::Path(path) => path.path.segments.last(),
        _ => None,
    }
}

pub(crate) fn type_arguments(segment: &PathSegment) -> Vec<&Type> {
    let PathArguments::AngleBracketed(arguments) = &segment.arguments else { return Vec::new() };
    let types = arguments.args.iter().filter_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    });
    types.collect()
}

pub(crate) fn leaves_reply_open(output: &Type) -> bool {
    match (ungrouped(output), last_segment(output)) {
        (Type::Tuple(tuple), _) => tuple.elems.is_empty(),
        (_, Some(last)) if last.ident == "Result" => {
            type_arguments(last).first().is_some_and(|collection| leaves_reply_open(collection))
        }
        (_, Some(last)) => last.ident == "Count" || last.ident == "String",
        _ => false,
    }
}

/// The `T` of a `Result<T, E>`, or the type itself.
pub(crate) fn value_type(ty: &Type) -> &Type {
    let last = last_segment(ty).filter(|last| last.ident == "Result");
    last.and_then(|last| type_arguments(last).into_iter().next()).unwrap_or(ty)
}

/// Whether values plainly cannot be collected into this type.
pub(crate) fn is_no_collection(ty: &Type) -> bool {
    let named = |last: &PathSegment| ["Option", "Box", "Arc", "Rc"].iter().any(|name| last.ident == name);
    match ungrouped(ty) {
        Type::Tuple(tuple) => !tuple.elems.is_empty(),
        Type::Array(_) | Type::Slice(_) => true,
        other => is_scalar(other) || last_segment(other).is_some_and(named),
    }
}

/// Whether the type is a number, `bool` or `char`.
pub(crate) fn is_scalar(ty: &Type) -> bool {
    last_segment(ty).is_some_and(|last| SCALARS.iter().any(|scalar| last.ident == scalar))
}

/// Whether a type of the language has this name.
pub(crate) fn is_type(name: &str) -> bool {
    SCALARS.contains(&name) || name == "str"
}

pub(crate) const SCALARS: [&str; 16] = [
    "i8", "i16", "i32", "i64", "i128", "isize", "u8", "u16", "u32", "u64", "u128", "usize", "f32", "f64", "bool",
    "char",
];

/// Whether the type is known to be storable: a number, a text, or a list or an option of those.
pub(crate) fn is_plain(ty: &Type) -> bool {
    let Type::Path(path) = ungrouped(ty) else { return false };
    let Some(ident) = path.path.get_ident() else {
        let (Some(last), 1) = (path.path.segments.last(), path.path.segments.len()) else { return false };
        let types = type_arguments(last);
        return (last.ident == "Vec" || last.ident == "Option") && types.len() == 1 && is_plain(types[0]);
    };
    is_scalar(ty) || ident == "String"
}

/// Whether `word` stands anywhere in `tokens`.
pub(crate) fn mentions(tokens: &TokenStream, word: &str) -> bool {
    tokens.clone().into_iter().any(|tree| match tree {
        proc_macro2::TokenTree::Ident(ident) => ident == word,
        proc_macro2::TokenTree::Group(group) => mentions(&group.stream(), word),
        _ => false,
    })
}

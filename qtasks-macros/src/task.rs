//! What the macro knows of a task, and the rules that a task obeys.

use proc_macro2::{Ident, TokenStream};
use quote::ToTokens as _;
use syn::{
    Attribute, Block, FnArg, GenericArgument, GenericParam, ItemFn, Lifetime, Pat, PatType, PathArguments, PathSegment,
    ReturnType, Safety, Signature, Token, Type, TypeImplTrait, TypeReference, Visibility, ext::IdentExt as _,
    visit::Visit,
};

use crate::{
    Errors,
    args::{self, Options},
    body::{self, Rules, Yields},
    ends,
};

/// A task.
pub(crate) struct Task {
    pub(crate) options: Options,
    pub(crate) attrs: Attributes,
    pub(crate) vis: Visibility,
    pub(crate) ident: Ident,
    /// The name that its jobs are stored under.
    pub(crate) name: String,
    pub(crate) awaits: bool,
    pub(crate) params: Vec<Param>,
    pub(crate) output: Option<Type>,
    pub(crate) body: Block,
    pub(crate) yields: Yields,
    /// The signature as the user wrote it.
    pub(crate) signature: Signature,
}

/// The attributes of the user's function, by where they go.
#[derive(Default)]
pub(crate) struct Attributes {
    /// To everything that is made.
    pub(crate) cfg: Vec<Attribute>,
    /// To the struct and its constructor.
    pub(crate) outside: Vec<Attribute>,
    /// To the struct, its constructor and the function that holds the body.
    pub(crate) lints: Vec<Attribute>,
    /// To the function that holds the body.
    pub(crate) inside: Vec<Attribute>,
}

/// A parameter of the user's function.
pub(crate) struct Param {
    pub(crate) attrs: Attributes,
    pub(crate) mutability: Option<Token![mut]>,
    pub(crate) ident: Ident,
    pub(crate) ty: Type,
    pub(crate) role: Role,
}

/// Where the value of a parameter comes from.
pub(crate) enum Role {
    /// From the stored arguments.
    Argument,
    /// It is the running task.
    Context,
    /// From the application's states, by its type.
    State,
    /// It is what the body yields through.
    Co,
}

impl Task {
    /// Reads the user's function; whatever is wrong with it is added to `errors`, and left out of the task if it must be.
    pub(crate) fn new(options: Options, function: ItemFn, errors: &mut Errors) -> Self {
        let ItemFn { attrs, vis, sig: signature, block: mut body, .. } = function;
        check_form(&signature, errors);
        let awaits = signature.asyncness.is_some();
        let params = signature.inputs.iter().filter_map(|input| Param::new(input, errors)).collect();
        let output = output(&signature.output, errors);
        let written = body.clone();
        let yields = body::rewrite(&mut body, Rules { awaits, skips: options.skips() }, errors);
        let name = name(&options, &signature.ident, errors);
        let (attrs, ident) = (Attributes::new(attrs), signature.ident.clone());
        let task = Self { options, attrs, vis, ident, name, awaits, params, output, body: *body, yields, signature };
        task.check_co(errors);
        task.check_context(errors);
        task.check_collection(errors);
        task.check_options(errors);
        task.check_shadows(errors);
        if task.generates() {
            ends::check(&written, task.fails(), errors);
        }
        task
    }

    /// Whether it is a generator.
    pub(crate) fn generates(&self) -> bool {
        self.yields.any || self.params.iter().any(Param::is_co)
    }

    /// Whether its body ends with a `Result`.
    pub(crate) fn fails(&self) -> bool {
        self.output.as_ref().and_then(last_segment).is_some_and(|last| last.ident == "Result")
    }

    /// Whether its struct would hide a type of the language.
    pub(crate) fn hides_type(&self) -> bool {
        is_type(&self.ident.to_string())
    }

    /// The stored arguments.
    pub(crate) fn arguments(&self) -> impl Iterator<Item = &Param> {
        self.params.iter().filter(|param| matches!(param.role, Role::Argument))
    }

    /// What the worker supplies before the body starts.
    pub(crate) fn injected(&self) -> impl Iterator<Item = &Param> {
        self.params.iter().filter(|param| matches!(param.role, Role::Context | Role::State))
    }

    /// Whether the return type leaves open what the handler replies.
    pub(crate) fn leaves_reply_open(&self) -> bool {
        self.output.as_ref().is_none_or(leaves_reply_open)
    }

    /// The `echo` whose running task nothing takes: neither a parameter nor the body, and there is no handler that might.
    pub(crate) fn unheard_echo(&self) -> Option<&Ident> {
        let heard = self.options.generate_handler.is_some()
            || self.params.iter().any(|param| matches!(param.role, Role::Context))
            || mentions(&self.body.to_token_stream(), "TaskContext");
        self.options.echo.as_ref().filter(|given| given.value && !heard).map(|given| &given.key)
    }

    /// Whether the running task is passed to the function.
    pub(crate) fn echoes(&self) -> bool {
        self.options.echo.as_ref().is_some_and(|given| given.value)
    }

    fn check_co(&self, errors: &mut Errors) {
        let mut cos = self.params.iter().filter(|param| param.is_co());
        if let Some(first) = cos.next()
            && !self.awaits
        {
            errors.at(&first.ty, "a `fn` task cannot take a `Co`: make it `async fn`, or use `yield_!`");
        }
        for other in cos {
            errors.at(&other.ty, "a task takes one `Co`: pass `&co` on to whatever needs it");
        }
    }

    fn check_context(&self, errors: &mut Errors) {
        for (at, param) in self.params.iter().enumerate() {
            match param.role {
                Role::Context if !self.echoes() => {
                    errors.at(&param.ty, "a `TaskContext` parameter needs `#[qtask(echo = true)]`: add `echo = true`");
                }
                Role::Context if at > 0 => {
                    errors
                        .at(&param.ty, "`echo = true` passes one `TaskContext`, as the first parameter: move it there");
                }
                _ => {}
            }
        }
    }

    /// What it returns, if it yields and that is plainly nothing to collect into.
    fn no_collection(&self) -> Option<&Type> {
        let output = self.output.as_ref().filter(|_| self.generates());
        output.map(value_type).filter(|output| is_no_collection(output))
    }

    /// Whether there is no collection of its values, which is an error.
    pub(crate) fn collects_nothing(&self) -> bool {
        self.no_collection().is_some()
    }

    /// The traits would say it too, once for each place that needs the collection.
    fn check_collection(&self, errors: &mut Errors) {
        if let Some(output) = self.no_collection() {
            let collection = format!("Vec<{}>", compact(&output.to_token_stream()));
            errors.at(
                output,
                format!(
                    "a task that yields returns what its values are collected into: `{collection}`, say, or `Count`"
                ),
            );
        }
    }

    fn check_options(&self, errors: &mut Errors) {
        let options = &self.options;
        if !self.generates() {
            let given = [
                options.generate_handler.as_ref().map(|given| &given.key),
                options.on_error.as_ref().map(|given| &given.key),
                options.checkpoint.as_ref().map(|given| &given.key),
                options.resume.as_ref().map(|given| &given.key),
            ];
            for key in given.into_iter().flatten() {
                errors.at(
                    key,
                    format!(
                        "`{key}` is for a task that yields: say `yield_!(value);` in the body, or take `co: Co<Y, R>`"
                    ),
                );
            }
        } else if let Some(on_error) = &options.on_error
            && options.skips()
            && options.generate_handler.is_none()
        {
            errors.at(
                &on_error.key,
                "`on_error = \"skip\"` is about the handler's errors: add `generate_handler = path`, or leave it out",
            );
        }
        if let Some(resume) = &options.resume
            && options.goes_on_from_cursor()
            && options.skips()
        {
            errors.at(
                &resume.key,
                "`resume = \"cursor\"` goes on from the last reply, and a value that is skipped has none: leave out one of \
                 `resume` and `on_error`",
            );
        }
        if let Some(retry_on) = &options.retry_on
            && !self.fails()
        {
            errors.at(
                &retry_on.key,
                "`retry_on` judges the error of the body: let the task return a `Result<T, E>`, or leave it out",
            );
        }
    }

    /// A function that the options name is called in the body's own function, where a parameter of its name hides it.
    fn check_shadows(&self, errors: &mut Errors) {
        let given = [("generate_handler", &self.options.generate_handler), ("retry_on", &self.options.retry_on)];
        for (key, given) in given {
            let Some(function) = given.as_ref().and_then(|given| given.value.path.get_ident()) else { continue };
            for param in self.params.iter().filter(|param| param.ident == *function) {
                errors.at(
                    &param.ident,
                    format!(
                        "the parameter `{function}` hides the function of `{key} = {function}`: rename the parameter"
                    ),
                );
            }
        }
    }
}

impl Attributes {
    fn new(all: Vec<Attribute>) -> Self {
        let mut attrs = Self::default();
        for attr in all {
            let list = match attr.path().get_ident().map(Ident::to_string).as_deref() {
                Some("cfg") => &mut attrs.cfg,
                Some("doc" | "deprecated") => &mut attrs.outside,
                Some("allow" | "warn" | "deny" | "forbid") => &mut attrs.lints,
                _ => &mut attrs.inside,
            };
            list.push(attr);
        }
        attrs
    }

    /// Whether the user wrote docs.
    pub(crate) fn has_docs(&self) -> bool {
        self.outside.iter().any(|attr| attr.path().is_ident("doc"))
    }

    /// Whether the user wrote `#[deprecated]`.
    pub(crate) fn is_deprecated(&self) -> bool {
        self.outside.iter().any(|attr| attr.path().is_ident("deprecated"))
    }
}

impl Param {
    fn new(input: &FnArg, errors: &mut Errors) -> Option<Self> {
        let PatType { attrs, pat, ty, .. } = match input {
            FnArg::Typed(typed) => typed,
            // A method is refused as a whole, before.
            FnArg::Receiver(_) => return None,
        };
        let attrs = Attributes::new(attrs.clone());
        if let Some(cfg) = attrs.cfg.first() {
            errors.at(
                cfg,
                "a parameter cannot be conditional, since jobs outlive a build: put `#[cfg]` on the task, or take an `Option`",
            );
        }
        let is_storable = check_type(ty, Use::Parameter, errors);
        let (mutability, ident) = named(pat, errors)?;
        let role = Role::of(ty, errors);
        is_storable.then(|| Self { attrs, mutability, ident, ty: Type::clone(ty), role })
    }

    pub(crate) fn is_co(&self) -> bool {
        matches!(self.role, Role::Co)
    }

    /// Whether it is to be said of its type that it can be stored: it is not known to be, and no attribute stores it in
    /// another way. What serde is to read is handed on as a text, in which `$crate` means nothing.
    pub(crate) fn is_to_check(&self) -> bool {
        let attrs = self.attrs.inside.iter().map(|attr| attr.meta.to_token_stream());
        let has_own_way = attrs
            .map(|meta| meta.to_string())
            .any(|meta| ["with", "skip", "bound", "cfg_attr", "into", "from"].iter().any(|way| meta.contains(way)));
        !is_plain(&self.ty) && !has_own_way && !mentions(&self.ty.to_token_stream(), "$crate")
    }

    /// The `T` of a `State<T>`.
    pub(crate) fn state(&self) -> Option<&Type> {
        match self.role {
            Role::State => type_arguments(last_segment(&self.ty)?).pop(),
            _ => None,
        }
    }
}

impl Role {
    fn of(ty: &Type, errors: &mut Errors) -> Self {
        let Some(last) = last_segment(ty) else { return Self::Argument };
        let types = type_arguments(last);
        match (last.ident.to_string().as_str(), &*types) {
            ("TaskContext", _) => Self::Context,
            ("State", _) => Self::State,
            ("Co", types) => {
                if types.len() != 2 {
                    errors.at(ty, "`Co` needs what is yielded and what the handler replies: `Co<i64, String>`");
                }
                Self::Co
            }
            _ => Self::Argument,
        }
    }
}

/// The rules for everything of a signature but its parameters and its return type.
fn check_form(signature: &Signature, errors: &mut Errors) {
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

fn output(output: &ReturnType, errors: &mut Errors) -> Option<Type> {
    match output {
        ReturnType::Default => None,
        ReturnType::Type(_, ty) => check_type(ty, Use::Return, errors).then(|| Type::clone(ty)),
    }
}

fn name(options: &Options, ident: &Ident, errors: &mut Errors) -> String {
    if let Some(name) = &options.name {
        return name.value();
    }
    let name = ident.unraw().to_string();
    if is_type(&name) {
        errors.at(ident, "the struct of a task would hide the type of this name: rename the function");
    } else if !name.is_ascii() {
        errors.at(ident, "a task's name is in ASCII: add `name = \"..\"` to `#[qtask]`, or rename the function");
    } else if let Err(error) = args::check_name(&name, ident.span()) {
        errors.push(error);
    }
    name
}

/// The name in a parameter's pattern.
fn named(pat: &Pat, errors: &mut Errors) -> Option<(Option<Token![mut]>, Ident)> {
    match pat {
        Pat::Ident(pat) if pat.by_ref.is_none() && pat.subpat.is_none() => Some((pat.mutability, pat.ident.clone())),
        Pat::Wild(_) => {
            errors.at(pat, "arguments are stored by name: write one, as in `_unused`");
            None
        }
        _ => {
            errors.at(pat, "arguments are stored by name: write one, and take the value apart in the body with `let`");
            None
        }
    }
}

/// What a type is used for.
#[derive(Clone, Copy)]
enum Use {
    Parameter,
    Return,
}

/// Whether values of `ty` can be stored, and the type be named.
fn check_type(ty: &Type, used: Use, errors: &mut Errors) -> bool {
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

/// Takes off the parentheses, and the invisible delimiters that a type gets which a `macro_rules!` has passed on.
fn ungrouped(ty: &Type) -> &Type {
    match ty {
        Type::Group(group) => ungrouped(&group.elem),
        Type::Paren(paren) => ungrouped(&paren.elem),
        other => other,
    }
}

fn last_segment(ty: &Type) -> Option<&PathSegment> {
    match ungrouped(ty) {
        Type::Path(path) => path.path.segments.last(),
        _ => None,
    }
}

fn type_arguments(segment: &PathSegment) -> Vec<&Type> {
    let PathArguments::AngleBracketed(arguments) = &segment.arguments else { return Vec::new() };
    let types = arguments.args.iter().filter_map(|argument| match argument {
        GenericArgument::Type(ty) => Some(ty),
        _ => None,
    });
    types.collect()
}

fn leaves_reply_open(output: &Type) -> bool {
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
fn value_type(ty: &Type) -> &Type {
    let last = last_segment(ty).filter(|last| last.ident == "Result");
    last.and_then(|last| type_arguments(last).into_iter().next()).unwrap_or(ty)
}

/// Something that values are not collected into.
fn is_no_collection(ty: &Type) -> bool {
    let named = |last: &PathSegment| ["Option", "Box", "Arc", "Rc"].iter().any(|name| last.ident == name);
    match ungrouped(ty) {
        Type::Tuple(tuple) => !tuple.elems.is_empty(),
        Type::Array(_) | Type::Slice(_) => true,
        other => is_scalar(other) || last_segment(other).is_some_and(named),
    }
}

/// A number, `bool` or `char`.
fn is_scalar(ty: &Type) -> bool {
    last_segment(ty).is_some_and(|last| SCALARS.iter().any(|scalar| last.ident == scalar))
}

/// Whether a type of the language has this name.
fn is_type(name: &str) -> bool {
    SCALARS.contains(&name) || name == "str"
}

const SCALARS: [&str; 16] = [
    "i8", "i16", "i32", "i64", "i128", "isize", "u8", "u16", "u32", "u64", "u128", "usize", "f32", "f64", "bool",
    "char",
];

/// A type that is known to be storable: a number, a text, or a list or an option of those.
fn is_plain(ty: &Type) -> bool {
    let Type::Path(path) = ungrouped(ty) else { return false };
    let Some(ident) = path.path.get_ident() else {
        let (Some(last), 1) = (path.path.segments.last(), path.path.segments.len()) else { return false };
        let types = type_arguments(last);
        return (last.ident == "Vec" || last.ident == "Option") && types.len() == 1 && is_plain(types[0]);
    };
    is_scalar(ty) || ident == "String"
}

/// Whether `word` stands anywhere in `tokens`.
fn mentions(tokens: &TokenStream, word: &str) -> bool {
    tokens.clone().into_iter().any(|tree| match tree {
        proc_macro2::TokenTree::Ident(ident) => ident == word,
        proc_macro2::TokenTree::Group(group) => mentions(&group.stream(), word),
        _ => false,
    })
}

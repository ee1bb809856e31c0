//! What the macro knows of a task.

use proc_macro2::Ident;
use quote::ToTokens as _;
use syn::{
    Attribute, Block, FnArg, ItemFn, Pat, PatType, ReturnType, Signature, Token, Type, Visibility, ext::IdentExt as _,
};

use crate::{
    Errors,
    args::Options,
    body::{self, Rules, Yields},
    ends,
    form::{Use, check_form, check_type},
    types::{
        is_no_collection, is_plain, is_type, last_segment, leaves_reply_open, mentions, type_arguments, value_type,
    },
    value::check_name,
};

/// A task, read from the user's function and the options of its attribute.
pub(crate) struct Task {
    pub(crate) options: Options,
    pub(crate) attrs: Attributes,
    pub(crate) vis: Visibility,
    pub(crate) ident: Ident,
    /// The name under which its jobs are stored.
    pub(crate) name: String,
    pub(crate) awaits: bool,
    pub(crate) params: Vec<Param>,
    pub(crate) output: Option<Type>,
    pub(crate) body: Block,
    pub(crate) yields: Yields,
    /// The signature as the user wrote it.
    pub(crate) signature: Signature,
}

/// The attributes of the user's function, by where the expansion puts them.
#[derive(Default)]
pub(crate) struct Attributes {
    /// Attributes of every item of the expansion.
    pub(crate) cfg: Vec<Attribute>,
    /// Attributes of the struct and its constructor.
    pub(crate) outside: Vec<Attribute>,
    /// Attributes of the struct, its constructor and the function that holds the body.
    pub(crate) lints: Vec<Attribute>,
    /// Attributes of the function that holds the body.
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
    /// The value is a stored argument.
    Argument,
    /// The value is the running task.
    Context,
    /// The value is the application's state of this type.
    State,
    /// The value is the coroutine's end, through which the body yields.
    Co,
}

impl Task {
    /// Reads the user's function. Each mistake is added to `errors`; a part that cannot be kept is left out of the task.
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
        task.check(errors);
        if task.generates() {
            ends::check(&written, task.fails(), errors);
        }
        task
    }

    /// Whether the task yields.
    pub(crate) fn generates(&self) -> bool {
        self.yields.any || self.params.iter().any(Param::is_co)
    }

    /// Whether the body ends with a `Result`.
    pub(crate) fn fails(&self) -> bool {
        self.output.as_ref().and_then(last_segment).is_some_and(|last| last.ident == "Result")
    }

    /// Whether the task's struct would hide a type of the language.
    pub(crate) fn hides_type(&self) -> bool {
        is_type(&self.ident.to_string())
    }

    /// The stored arguments.
    /// The names of the parameters by which calls are told apart; none where all are, or where calls are not.
    pub(crate) fn unique_by(&self) -> Option<Vec<String>> {
        let names = self.options.unique.as_ref()?.value();
        (names != "args").then(|| names.split(',').map(|name| name.trim().to_owned()).collect())
    }

    pub(crate) fn arguments(&self) -> impl Iterator<Item = &Param> {
        self.params.iter().filter(|param| matches!(param.role, Role::Argument))
    }

    /// The parameters that the worker supplies before the body starts.
    pub(crate) fn injected(&self) -> impl Iterator<Item = &Param> {
        self.params.iter().filter(|param| matches!(param.role, Role::Context | Role::State))
    }

    /// Whether the return type leaves open what the handler replies.
    pub(crate) fn leaves_reply_open(&self) -> bool {
        self.output.as_ref().is_none_or(leaves_reply_open)
    }

    /// The key of an `echo` that is of no use: no parameter and nothing in the body takes the running task, and there is no
    /// handler that might.
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

    /// The return type, if the task yields and values plainly cannot be collected into that type.
    pub(crate) fn no_collection(&self) -> Option<&Type> {
        let output = self.output.as_ref().filter(|_| self.generates());
        output.map(value_type).filter(|output| is_no_collection(output))
    }

    /// Whether the values have nothing to be collected into, which is an error.
    pub(crate) fn collects_nothing(&self) -> bool {
        self.no_collection().is_some()
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

    /// Whether serde is told to store the parameter other than under its name.
    pub(crate) fn is_stored_otherwise(&self) -> bool {
        let is_serde = |attribute: &&Attribute| attribute.path().is_ident("serde");
        let text = |attribute: &Attribute| attribute.to_token_stream().to_string();
        let otherwise = |text: String| ["rename", "flatten", "skip"].iter().any(|word| text.contains(word));
        self.inside.iter().filter(is_serde).map(text).any(otherwise)
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

    /// Whether the expansion states that the type can be stored: the macro does not know that it can, and no attribute of
    /// serde's stores it in another way. Serde takes the statement as a text, in which `$crate` means nothing.
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
    } else if let Err(error) = check_name(&name, ident.span()) {
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

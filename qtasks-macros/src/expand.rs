//! What becomes of a task: a struct, its constructor, the function that holds the body, and an `impl Task`.

use std::time::Duration;

use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream};
use quote::{ToTokens, quote, quote_spanned};
use syn::{ExprPath, FnArg, Item, ItemFn, Path, TraitItemFn, ext::IdentExt as _, spanned::Spanned as _};

use crate::{
    Errors,
    args::{Backoff, Checkpoint, Options},
    body::{self, at, co},
    task::{Param, Role, Task, compact},
};

/// Expands the attribute. On an error the task is still there to be called, so that its callers are not in error too.
pub(crate) fn qtask(options: TokenStream, item: TokenStream, is_in_impl: bool) -> TokenStream {
    let mut errors = Errors::default();
    let options = Options::parse(options, &mut errors);
    let function = match syn::parse2::<ItemFn>(item.clone()) {
        Ok(function) => function,
        Err(error) => match syn::parse2(body::with_visible_blocks(item.clone())) {
            Ok(function) => function,
            Err(_) => {
                errors.push(not_a_function(&item).unwrap_or(error));
                return with_errors(item, errors);
            }
        },
    };
    if is_in_impl || function.sig.receiver().is_some() {
        return method(&function);
    }
    let task = Task::new(options, function, &mut errors);
    match errors.0.is_empty() {
        true => Expansion::of(&task).whole(),
        // In its place it would be one mistake after the other.
        false if task.hides_type() => with_errors(quote!(), errors),
        false => with_errors(Expansion::of(&task).stub(), errors),
    }
}

/// The one error of a task in an `impl`, and the method without its body, in which a `yield_!` would be another.
fn method(function: &ItemFn) -> TokenStream {
    let ItemFn { attrs, vis, sig, .. } = function;
    let (at, message) = match sig.receiver() {
        Some(receiver) => (
            receiver.self_token.to_token_stream(),
            "a task is a function of its own: move it out of the `impl`, and take what it needs of `self` as arguments",
        ),
        None => (sig.ident.to_token_stream(), "a task is a function of its own: move it out of the `impl`"),
    };
    let mut errors = Errors::default();
    errors.at(at, message);
    let cfg = attrs.iter().filter(|attr| attr.path().is_ident("cfg"));
    let method = quote! {
        #(#cfg)*
        #[allow(unused, clippy::all)]
        #vis #sig {
            ::core::unreachable!()
        }
    };
    with_errors(method, errors)
}

fn with_errors(tokens: TokenStream, errors: Errors) -> TokenStream {
    let errors = errors.into_compile_error();
    quote!(#errors #tokens)
}

/// The error for an item of another kind.
fn not_a_function(item: &TokenStream) -> Option<syn::Error> {
    let message = match syn::parse2::<Item>(item.clone()) {
        Ok(Item::Fn(_)) => return None,
        Ok(Item::Verbatim(_)) | Err(_) => {
            syn::parse2::<TraitItemFn>(item.clone()).ok()?;
            "a task is a function of its own, with a body and outside of any `trait`"
        }
        Ok(_) => "`#[qtask]` makes a task of a function: put it on an `async fn` or a `fn`",
    };
    Some(syn::Error::new_spanned(item, message))
}

struct Expansion<'a> {
    task: &'a Task,
    root: Path,
    /// `qtasks::__private`, through which all that the user did not write is reached.
    q: TokenStream,
    /// The attempt that runs, a name that no user can say.
    attempt: Ident,
}

impl<'a> Expansion<'a> {
    fn of(task: &'a Task) -> Self {
        let root = task.options.root();
        Self { task, q: quote!(#root::__private), root, attempt: Ident::new("__attempt", Span::mixed_site()) }
    }

    /// `qtasks::__private`, for messages that point at `span`.
    fn q_at(&self, span: Span) -> TokenStream {
        let private = quote_spanned!(at(span)=> ::__private);
        let root = self.root.to_token_stream().into_iter().map(|mut tree| {
            tree.set_span(tree.span().located_at(span));
            tree
        });
        root.chain(private).collect()
    }

    fn whole(&self) -> TokenStream {
        let (q, Task { ident, attrs, .. }) = (&self.q, self.task);
        let (call, constructor, function) = (self.call(), self.constructor(), self.function());
        let (output, schema, start) = (self.output(), self.schema(), self.start());
        let (awaited, fallback) = (self.awaited(), self.fallback());
        let (no_hidden_result, unheard_echo) = (self.no_hidden_result(), self.unheard_echo());
        let storable = self.task.arguments().filter(|param| param.is_to_check()).map(|param| {
            let (private, ty) = (self.q_at(param.ty.span()), &param.ty);
            quote_spanned!(at(ty.span())=> #private::is_argument::<#ty>();)
        });
        let (cfg, quiet) = (&attrs.cfg, self.quiet());
        quote! {
            #fallback
            #call
            #constructor

            #(#cfg)*
            #quiet
            impl #ident {
                #function
            }

            #(#cfg)*
            #quiet
            impl #q::Task for #ident {
                type Output = #output;
                #schema
                #q::stored_arguments!();
                #start
            }

            #awaited

            #(#cfg)*
            #quiet
            const _: () = {
                #(#storable)*
                #unheard_echo
                #no_hidden_result
                #q::inventory::submit! { #q::Registration::of::<#ident>() }
            };
        }
    }

    /// What callers of a wrong task see, so that they are told of no errors but their own.
    fn stub(&self) -> TokenStream {
        let (q, Task { ident, attrs, vis, signature, .. }) = (&self.q, self.task);
        let (call, cfg, quiet) = (self.call(), &attrs.cfg, self.quiet());
        let generics = &signature.generics;
        let is_generic = !generics.params.is_empty();
        let injected: Vec<_> = self.task.params.iter().filter(|param| !matches!(param.role, Role::Argument)).collect();
        let is_argument = |input: &&FnArg| match input {
            FnArg::Typed(typed) => !injected.iter().any(|param| param.ty == *typed.ty),
            FnArg::Receiver(_) => false,
        };
        let inputs = signature.inputs.iter().filter(is_argument).map(|input| match input {
            FnArg::Typed(typed) => {
                let ty = &typed.ty;
                quote!(_: #ty)
            }
            FnArg::Receiver(_) => quote!(),
        });
        let output = if is_generic || self.task.collects_nothing() { quote!(()) } else { self.output() };
        let (params, clause) = (&generics.params, &generics.where_clause);
        quote! {
            #call

            #(#cfg)*
            #[allow(unused, deprecated, non_snake_case, clippy::all)]
            #vis fn #ident<#params>(#(#inputs),*) -> #ident #clause {
                ::core::unreachable!()
            }

            #(#cfg)*
            #quiet
            impl #q::Task for #ident {
                type Output = #output;
                fn schema() -> &'static #q::TaskExecSchema {
                    ::core::unreachable!()
                }
                fn encode(&self) -> ::core::result::Result<#q::Json, #q::serde_json::Error> {
                    ::core::unreachable!()
                }
                fn decode(_: &#q::Json) -> ::core::result::Result<Self, #q::Undecodable> {
                    ::core::unreachable!()
                }
                fn start(self, _: #q::Attempt) -> #q::Running {
                    ::core::unreachable!()
                }
            }
        }
    }

    /// The struct of the stored arguments.
    fn call(&self) -> TokenStream {
        let (q, Task { ident, vis, attrs, signature, .. }) = (&self.q, self.task);
        let (cfg, outside, lints) = (&attrs.cfg, &attrs.outside, &attrs.lints);
        let docs = (!attrs.has_docs()).then(|| format!(" A call of the task `{}`.", self.task.name));
        let docs = docs.map(|text| quote!(#[doc = #text]));
        let is_generic = !signature.generics.params.is_empty();
        let fields = self.task.arguments().filter(|_| !is_generic).map(|param| field(param, vis, q));
        let serde = compact(&quote!(#q::serde));
        quote! {
            #(#cfg)*
            #docs
            #(#outside)*
            #(#lints)*
            #[allow(non_camel_case_types)]
            #[must_use = "a call does nothing until it is enqueued or run"]
            #[derive(#q::serde::Serialize, #q::serde::Deserialize)]
            #[serde(crate = #serde)]
            #vis struct #ident {
                #(#fields),*
            }
        }
    }

    /// What says how a call is run, when it is awaited.
    fn awaited(&self) -> TokenStream {
        let (q, Task { ident, attrs, .. }) = (&self.q, self.task);
        let (cfg, quiet) = (&attrs.cfg, self.quiet());
        quote! {
            #(#cfg)*
            #quiet
            #[doc(hidden)]
            impl ::core::future::Future for #ident
            where
                for<'a> #q::CallOfATask: #q::Awaits<'a, Self>,
            {
                type Output = <Self as #q::Task>::Output;
                fn poll(
                    self: ::core::pin::Pin<&mut Self>,
                    _: &mut ::core::task::Context<'_>,
                ) -> ::core::task::Poll<Self::Output> {
                    ::core::task::Poll::Pending
                }
            }
        }
    }

    /// The `yield_!` of a module that does not import it.
    fn fallback(&self) -> Option<TokenStream> {
        let (q, cfg) = (&self.q, &self.task.attrs.cfg);
        self.task.yields.bare.as_ref().map(|_| {
            quote! {
                #(#cfg)*
                #[allow(unused_imports, clippy::wildcard_imports)]
                use #q::fallback::*;
            }
        })
    }

    /// The function that makes a call.
    fn constructor(&self) -> TokenStream {
        let Task { ident, vis, attrs, .. } = self.task;
        let (cfg, outside, lints) = (&attrs.cfg, &attrs.outside, &attrs.lints);
        let quiet = self.quiet();
        let names: Vec<_> = self.task.arguments().map(|param| &param.ident).collect();
        let types = self.task.arguments().map(|param| &param.ty);
        // A task that only schedules or other programs call is no dead code.
        quote! {
            #(#cfg)*
            #(#outside)*
            #(#lints)*
            #quiet
            #[allow(dead_code)]
            #vis fn #ident(#(#names: #types),*) -> #ident {
                #ident { #(#names),* }
            }
        }
    }

    /// The function that holds the body.
    fn function(&self) -> TokenStream {
        let (q, Task { ident, attrs, awaits, .. }) = (&self.q, self.task);
        let (inside, lints) = (&attrs.inside, &attrs.lints);
        let params = self.task.params.iter().filter(|param| !param.is_co()).map(parameter);
        let asyncness = awaits.then(|| quote!(async));
        let (attempt, output, body) = match self.task.generates() {
            true => {
                let attempt = &self.attempt;
                // Attributes such as `tracing::instrument` record parameters by name; the parentheses keep this one out.
                (Some(quote!((#attempt): #q::Attempt)), quote!(-> #q::Outcome), self.generator())
            }
            false => {
                let output = &self.task.signature.output;
                (None, output.to_token_stream(), self.task.body.to_token_stream())
            }
        };
        let params = params.chain(attempt);
        // A `fn` body is all that runs on its thread, so a lock that it holds across a yield blocks no other task.
        let held = (self.task.generates() && !awaits)
            .then(|| quote!(#[allow(clippy::await_holding_lock, clippy::await_holding_refcell_ref)]));
        quote! {
            #(#lints)*
            #(#inside)*
            #[doc(hidden)]
            #[allow(clippy::too_many_arguments, unused_parens)]
            #held
            #asyncness fn #ident(#(#params),*) #output #body
        }
    }

    /// The body of a generator, as a coroutine that the runtime drives.
    fn generator(&self) -> TokenStream {
        let (q, attempt, options) = (&self.q, &self.attempt, &self.task.options);
        let into = self.into();
        let private = self.q_at(into.span());
        let on_error = if options.skips() { quote!(#q::Skip) } else { quote!(#q::Fail) };
        let retry_on = self.retry_on();
        // A message about what the values are collected into points at this.
        let generator =
            quote_spanned!(at(into.span())=> #private::Generator::<#into, #on_error>::new(#attempt, #retry_on));
        let (kind, handler) = match options.generate_handler.as_ref().map(|given| &given.value) {
            Some(path) if self.task.leaves_reply_open() => (quote!(#q::kind_of!(#path)), self.handed(path)),
            Some(path) => (quote!(#q::Kind::INFERRED), self.handed(path)),
            None => (quote!(#q::Kind::INFERRED), quote!(#q::Identity)),
        };
        let body = self.coroutine();
        let (run, wait) = match self.task.awaits {
            true => (quote!(#q::Generator::run), Some(quote!(.await))),
            false => (quote!(#q::Generator::run_blocking), None),
        };
        quote!({ #run(#generator, #kind, #handler, #body) #wait })
    }

    /// What a handler takes. That it is none is said here, twice in the same words, which rustc shows once.
    fn takes(&self, path: &ExprPath) -> TokenStream {
        let private = self.q_at(path.span());
        quote_spanned!(at(path.span())=> #private::Takes::of(&#path))
    }

    /// A handler, as its task is given it.
    fn handed(&self, path: &ExprPath) -> TokenStream {
        let (private, takes) = (self.q_at(path.span()), self.takes(path));
        quote_spanned! {at(path.span())=> {
            #[allow(unused_imports)]
            use #private::{TakesReference as _, TakesValue as _};
            (&#takes).pass(#path)
        }}
    }

    /// The body between the user's own braces, so that messages about it as a whole point there.
    fn coroutine(&self) -> TokenStream {
        let span = self.task.body.brace_token.span.join();
        let co = co(span);
        let (start, statements) = (self.start_of_body(), &self.task.body.stmts);
        let mut block = Group::new(Delimiter::Brace, quote!(#start #(#statements)*));
        block.set_span(span);
        quote_spanned!(at(span)=> move |#co| async move #block)
    }

    fn start_of_body(&self) -> TokenStream {
        let (q, into, co) = (&self.q, self.into(), co(Span::call_site()));
        // An import of the exported macro, which the local one hides, is used by this.
        let used = self.task.yields.bare.as_ref().map(|name| quote!(#name!(@used);));
        let yields = if self.task.options.skips() { quote!(emit) } else { quote!(yield_) };
        let user_co = self.task.params.iter().find(|param| param.is_co()).map(|param| {
            let Param { mutability, ident, ty, .. } = param;
            let co = body::co(ty.span());
            let clone = quote_spanned!(at(ty.span())=> #co.clone());
            quote!(let #mutability #ident: #ty = #clone;)
        });
        quote! {
            #used
            #[allow(unused_macros)]
            macro_rules! yield_ {
                (@used) => {};
                ($value:expr $(,)?) => { #co.#yields($value).await };
            }
            // Says what the body ends with, so that a wrong end is an error there.
            #[allow(unreachable_code, clippy::all)]
            if false {
                let end: <#into as #q::Declared>::Body = loop {};
                return end;
            }
            #user_co
        }
    }

    /// What a generator collects its values into.
    fn into(&self) -> TokenStream {
        let q = &self.q;
        self.task.output.as_ref().map_or_else(|| quote!(#q::Untyped), ToTokens::to_token_stream)
    }

    /// What the task's jobs give in the end.
    fn output(&self) -> TokenStream {
        let q = &self.q;
        match &self.task.output {
            Some(output) if self.task.generates() => {
                let q = self.q_at(output.span());
                quote_spanned!(at(output.span())=> <#output as #q::Declared>::Collection)
            }
            None if self.task.generates() => quote!(<#q::Untyped as #q::Declared>::Collection),
            Some(output) if self.task.fails() => quote_spanned!(at(output.span())=> <#output as #q::Fallible>::Value),
            Some(output) => output.to_token_stream(),
            None => quote!(()),
        }
    }

    fn schema(&self) -> TokenStream {
        let (q, Task { name, options, .. }) = (&self.q, self.task);
        let set = self.settings();
        let awaiting = self.task.awaits.then(|| quote!(.awaiting()));
        let echo = self.task.echoes().then(|| quote!(.echo()));
        let generating = self.generating();
        let handler = options.generate_handler.as_ref().map(|given| {
            let (path, text) = (&given.value, compact(&given.value.to_token_stream()));
            let takes = self.takes(path);
            quote!(.handler(#text, || #takes.needs()))
        });
        let states: Vec<_> = self.task.params.iter().filter_map(Param::state).collect();
        let needs = (!states.is_empty()).then(|| quote!(.needs(|| ::std::vec![#(#q::Need::of::<#states>()),*])));
        quote! {
            fn schema() -> &'static #q::TaskExecSchema {
                static SCHEMA: #q::TaskExecSchema =
                    #q::TaskExecSchema::new(#name, ::core::module_path!(), ::core::file!(), ::core::line!())
                        #awaiting #echo #generating #handler #needs #set;
                &SCHEMA
            }
        }
    }

    fn generating(&self) -> Option<TokenStream> {
        let (q, options) = (&self.q, &self.task.options);
        let into = self.into();
        let on_error = options.skips().then(|| quote!(.on_error(#q::OnError::Skip)));
        let checkpoint = options.checkpoint.as_ref().map(|given| match given.value {
            Checkpoint::Each => quote!(.checkpoint(#q::Checkpoint::Each)),
            Checkpoint::Within(time) => {
                let time = duration(time);
                quote!(.checkpoint(#q::Checkpoint::Within(#time)))
            }
        });
        let resume = options.goes_on_from_cursor().then(|| quote!(.resume(#q::Resume::Cursor)));
        self.task
            .generates()
            .then(|| quote!(.generating(#q::Generating::into::<#into>() #on_error #checkpoint #resume)))
    }

    /// The options that are plain values.
    fn settings(&self) -> TokenStream {
        let (q, options) = (&self.q, &self.task.options);
        let queue = options.queue.as_ref().map(|queue| quote!(.queue(#queue)));
        let priority = options.priority.map(|priority| quote!(.priority(#priority)));
        let retry = retry(q, options.retry, options.backoff).map(|retry| quote!(.retry(#retry)));
        let max_time = options.max_time.map(duration).map(|time| quote!(.max_time(#time)));
        let tags = &options.tags;
        let tags = (!tags.is_empty()).then(|| quote!(.tags(&[#(#tags),*])));
        let description = options.description.as_ref().map(|text| quote!(.description(#text)));
        quote!(#queue #priority #retry #max_time #tags #description)
    }

    /// Makes the body ready to run.
    fn start(&self) -> TokenStream {
        let (q, attempt, ident) = (&self.q, &self.attempt, &self.task.ident);
        let arguments = self.task.arguments().map(|param| &param.ident);
        let injected = self.task.injected().map(|param| {
            let Param { ident, ty, .. } = param;
            let (take, attempt) = (injection(param), Ident::new("__attempt", at(ty.span())));
            let value = quote_spanned!(at(ty.span())=> #attempt.#take());
            quote!(let #ident: #ty = #value;)
        });
        let all = self.task.params.iter().filter(|param| !param.is_co()).map(|param| param.ident.to_token_stream());
        let all = all.chain(self.task.generates().then(|| attempt.to_token_stream()));
        let (body, retry_on) = (quote_spanned!(at(ident.span())=> Self::#ident(#(#all),*)), self.retry_on());
        let span = self.task.output.as_ref().map_or_else(|| ident.span(), |output| output.span());
        let (running, types) = (self.q_at(span), self.types_of_result());
        let running = match (self.task.generates(), self.task.awaits, self.task.fails()) {
            (true, true, _) => quote!(#q::Running::generator(#body)),
            (true, false, _) => quote!(#q::Running::blocking_generator(move || #body)),
            (false, true, true) => {
                quote_spanned!(at(span)=> #running::Running::fallible #types(#attempt, #body, #retry_on))
            }
            (false, true, false) => quote_spanned!(at(span)=> #running::Running::value(#attempt, #body)),
            (false, false, true) => {
                quote_spanned!(at(span)=> #running::Running::blocking_fallible #types(#attempt, move || #body, #retry_on))
            }
            (false, false, false) => {
                quote_spanned!(at(span)=> #running::Running::blocking_value(#attempt, move || #body))
            }
        };
        quote! {
            fn start(self, #attempt: #q::Attempt) -> #q::Running {
                let Self { #(#arguments),* } = self;
                #(#injected)*
                #running
            }
        }
    }

    /// The types of a `Result` that `retry_on` judges, so that a wrong function is an error there and not in the body.
    fn types_of_result(&self) -> Option<TokenStream> {
        let (q, output) = (&self.q, self.task.output.as_ref()?);
        let given = self.task.options.retry_on.as_ref();
        given.map(|_| quote!(::<<#output as #q::Fallible>::Value, <#output as #q::Fallible>::Error>))
    }

    /// A plain task is told from a fallible one by the name of its return type, which an alias may hide.
    fn no_hidden_result(&self) -> Option<TokenStream> {
        let output = self.task.output.as_ref()?;
        if self.task.generates() || self.task.fails() {
            return None;
        }
        let q = self.q_at(output.span());
        Some(quote_spanned! {at(output.span())=>
            use #q::NoResult as _;
            ::core::assert!(
                !#q::Returned::<#output>::IS_RESULT,
                "`#[qtask]` tells a `Result` by its name: write `Result<..>`, or an alias of that name"
            );
        })
    }

    /// A warning about an `echo` whose running task nothing takes. A handler may take it, which is not to be seen here.
    fn unheard_echo(&self) -> Option<TokenStream> {
        let key = self.task.unheard_echo()?;
        let (warning, lints) = (Ident::new("ECHO_WITHOUT_A_PARAMETER", key.span()), &self.task.attrs.lints);
        Some(quote! {
            #[deprecated(
                note = "nothing takes the running task that `echo = true` passes: take it as the first parameter, `ctx: TaskContext`, \
                        or leave `echo = true` out"
            )]
            #(#lints)*
            const #warning: () = ();
            #(#lints)*
            let () = #warning;
        })
    }

    fn retry_on(&self) -> TokenStream {
        match &self.task.options.retry_on {
            Some(given) => {
                let path = &given.value;
                quote!(::core::option::Option::Some(#path))
            }
            // A message about the error of the body points at what is in the place of the function that would judge it.
            None => {
                let span = self.task.output.as_ref().map_or_else(Span::call_site, |output| output.span());
                quote_spanned!(at(span)=> ::core::option::Option::None)
            }
        }
    }

    /// Keeps a deprecated task from being called a use of itself.
    fn quiet(&self) -> Option<TokenStream> {
        self.task.attrs.is_deprecated().then(|| quote!(#[allow(deprecated)]))
    }
}

/// A stored argument.
fn field(param: &Param, vis: &syn::Visibility, q: &TokenStream) -> TokenStream {
    let Param { attrs, ident, ty, .. } = param;
    // A message of serde's about the field points at its first token.
    let docs = (!attrs.has_docs()).then(|| {
        let text = format!(" The argument `{}`.", ident.unraw());
        quote_spanned!(at(ident.span())=> #[doc = #text])
    });
    let (outside, lints, inside) = (&attrs.outside, &attrs.lints, &attrs.inside);
    // Serde's code takes on trust that the type can be stored, and one place says so when it cannot.
    let bound = param.is_to_check().then(|| {
        let bound = quote!(for<'a> #ty: #q::Argument<'a>).to_string();
        let bound = syn::LitStr::new(&bound, at(ty.span()));
        quote!(#[serde(bound = #bound)])
    });
    quote!(#docs #(#outside)* #(#lints)* #bound #(#inside)* #vis #ident: #ty)
}

/// A parameter of the function that holds the body.
fn parameter(param: &Param) -> TokenStream {
    let Param { attrs, mutability, ident, ty, role } = param;
    let lints = &attrs.lints;
    let inside = attrs.inside.iter().filter(|_| !matches!(role, Role::Argument));
    quote!(#(#lints)* #(#inside)* #mutability #ident: #ty)
}

fn injection(param: &Param) -> Ident {
    let method = if matches!(param.role, Role::Context) { "context" } else { "state" };
    Ident::new(method, at(param.ty.span()))
}

fn retry(q: &TokenStream, limit: Option<u32>, backoff: Option<Backoff>) -> Option<TokenStream> {
    if limit.is_none() && backoff.is_none() {
        return None;
    }
    let limit = limit.map_or_else(|| quote!(#q::Retry::DEFAULT.limit), |limit| quote!(#limit));
    let (base, cap) = match backoff {
        Some(Backoff { base, cap }) => (duration(base), duration(cap)),
        None => (quote!(#q::Retry::DEFAULT.base), quote!(#q::Retry::DEFAULT.cap)),
    };
    Some(quote!(#q::Retry { limit: #limit, base: #base, cap: #cap }))
}

fn duration(duration: Duration) -> TokenStream {
    let millis = u64::try_from(duration.as_millis()).expect("read from whole milliseconds");
    quote!(::core::time::Duration::from_millis(#millis))
}

//! The yields of a body: checks where they stand, and makes calls of the coroutine's end of them.
//!
//! `yield_!(value);` becomes `__co.emit(value).await;`, and `yield_!(value)` as an expression `__co.yield_(value).await`. A
//! `yield_!` that a macro of the user's makes cannot be read here: it meets the `macro_rules! yield_` above the body.

use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens as _, TokenStreamExt as _, quote, quote_spanned};
use syn::{
    Attribute, Block, Expr, ExprAsync, ExprAwait, ExprClosure, ExprConst, Item, Macro, MacroDelimiter, Path, Stmt,
    Token,
    parse::Parser as _,
    punctuated::Punctuated,
    spanned::Spanned as _,
    visit_mut::{self, VisitMut},
};

use crate::Errors;

/// What a body may do.
#[derive(Clone, Copy)]
pub(crate) struct Rules {
    /// Whether the body is that of an `async fn`.
    pub(crate) awaits: bool,
    /// Whether a value may be skipped, and so have no reply.
    pub(crate) skips: bool,
}

/// The yields that were found in a body.
#[derive(Default)]
pub(crate) struct Yields {
    /// Whether the body says `yield_!`.
    pub(crate) any: bool,
    /// The first `yield_` without a path, which uses what the user imported under that name.
    pub(crate) bare: Option<Ident>,
}

/// Checks `block` and rewrites its yields in place.
pub(crate) fn rewrite(block: &mut Block, rules: Rules, errors: &mut Errors) -> Yields {
    let mut body = Body { rules, scope: Scope::Task, yields: Yields::default(), errors };
    body.visit_block_mut(block);
    body.yields
}

/// The name of the coroutine's end, which the user's code cannot mention; a message about it points at `span`.
pub(crate) fn co(span: Span) -> Ident {
    Ident::new("__co", at(span))
}

/// A span for code that the macro makes: messages about it point at `span`, which the user wrote.
pub(crate) fn at(span: Span) -> Span {
    Span::mixed_site().located_at(span)
}

/// Takes the invisible delimiters off a statement that is a `$block` of a `macro_rules!`: syn wants a semicolon after
/// such a statement, and rustc does not.
pub(crate) fn with_visible_blocks(tokens: TokenStream) -> TokenStream {
    let trees: Vec<_> = tokens.into_iter().collect();
    let visible = trees.iter().enumerate().map(|(at, tree)| {
        let TokenTree::Group(group) = tree else { return tree.clone() };
        let ends_statement = match trees.get(at + 1) {
            Some(TokenTree::Ident(next)) => next != "as",
            Some(TokenTree::Group(next)) => next.delimiter() == Delimiter::Brace,
            Some(TokenTree::Punct(next)) => next.as_char() == '#',
            _ => false,
        };
        match passed_on_block(group) {
            Some(block) if ends_statement => in_group(&block, with_visible_blocks(block.stream())).into(),
            _ => in_group(group, with_visible_blocks(group.stream())).into(),
        }
    });
    visible.collect()
}

fn passed_on_block(group: &Group) -> Option<Group> {
    let mut inside = group.stream().into_iter();
    match (group.delimiter(), inside.next(), inside.next()) {
        (Delimiter::None, Some(TokenTree::Group(block)), None) if block.delimiter() == Delimiter::Brace => Some(block),
        _ => None,
    }
}

/// The innermost thing that the visited tokens stand in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    Task,
    Closure,
    Async,
    Item,
}

struct Body<'a> {
    rules: Rules,
    scope: Scope,
    yields: Yields,
    errors: &'a mut Errors,
}

impl VisitMut for Body<'_> {
    fn visit_stmt_mut(&mut self, stmt: &mut Stmt) {
        if let Some((attrs, call, semi)) = statement_yield(stmt) {
            *stmt = match semi {
                Some(_) => Stmt::Expr(self.yielded("emit", &attrs, &call), semi),
                // `yield_! { value }`: braces need no semicolon.
                None => {
                    let reply = self.reply(&attrs, &call);
                    Stmt::Expr(Expr::Verbatim(quote!({ #reply })), None)
                }
            };
        } else {
            visit_mut::visit_stmt_mut(self, stmt);
        }
    }

    fn visit_expr_mut(&mut self, expr: &mut Expr) {
        match expr {
            Expr::Yield(keyword) => {
                self.yields.any = true;
                self.errors.at(keyword.yield_token, "in a task, `yield value` is written `yield_!(value)`");
            }
            Expr::Macro(call) if yield_name(&call.mac.path).is_some() => *expr = self.reply(&call.attrs, &call.mac),
            _ => visit_mut::visit_expr_mut(self, expr),
        }
    }

    fn visit_macro_mut(&mut self, call: &mut Macro) {
        let braces = matches!(call.delimiter, MacroDelimiter::Brace(_));
        call.tokens = self.macro_input(call.tokens.clone(), braces);
    }

    fn visit_expr_await_mut(&mut self, expr: &mut ExprAwait) {
        self.awaited(expr.await_token.span);
        visit_mut::visit_expr_await_mut(self, expr);
    }

    fn visit_expr_closure_mut(&mut self, closure: &mut ExprClosure) {
        self.within(Scope::Closure, |body| visit_mut::visit_expr_closure_mut(body, closure));
    }

    fn visit_expr_async_mut(&mut self, block: &mut ExprAsync) {
        self.within(Scope::Async, |body| visit_mut::visit_expr_async_mut(body, block));
    }

    fn visit_expr_const_mut(&mut self, block: &mut ExprConst) {
        self.within(Scope::Item, |body| visit_mut::visit_expr_const_mut(body, block));
    }

    fn visit_item_mut(&mut self, item: &mut Item) {
        match item {
            Item::Fn(function) if function.attrs.iter().any(is_qtask) => {}
            // What the macro makes is checked where it is used: by the `yield_!` that it meets there.
            Item::Macro(rules) if rules.ident.is_some() => self.note_all(&rules.mac.tokens),
            _ => self.within(Scope::Item, |body| visit_mut::visit_item_mut(body, item)),
        }
    }
}

impl Body<'_> {
    fn within(&mut self, scope: Scope, visit: impl FnOnce(&mut Self)) {
        let outer = std::mem::replace(&mut self.scope, scope);
        visit(self);
        self.scope = outer;
    }

    /// A yield whose reply is used.
    fn reply(&mut self, attrs: &[Attribute], call: &Macro) -> Expr {
        if let Some(name) = yield_name(&call.path) {
            self.refuse_reply(name);
        }
        self.yielded("yield_", attrs, call)
    }

    /// A yield as a call of the coroutine's end, with spans by which a message shows the whole of `yield_!(value)`.
    fn yielded(&mut self, method: &str, attrs: &[Attribute], call: &Macro) -> Expr {
        self.check(&call.path, &call.tokens);
        let value = without_trailing_comma(self.macro_input(call.tokens.clone(), false));
        let (start, end) = (at(call.path.span()), at(call.delimiter.span().close()));
        let (co, method) = (co(start), Ident::new(method, start));
        let wait = quote_spanned!(end=> .await);
        Expr::Verbatim(quote_spanned!(start=> #(#attrs)* #co.#method(#value)#wait))
    }

    fn refuse_reply(&mut self, name: &Ident) {
        if self.rules.skips && self.scope == Scope::Task {
            self.errors.at(
                name,
                "a value that is skipped has no reply: under `on_error = \"skip\"` write `yield_!(..);` as a statement, or \
                 take `co: Co<Y, R>`, whose `yield_` gives a `Result`",
            );
        }
    }

    /// Checks that a yield stands where it may, and yields one value.
    fn check(&mut self, path: &Path, input: &TokenStream) {
        let Some(name) = yield_name(path) else { return };
        self.note(name, path.segments.len() == 1);
        if let Some(message) = misplaced(self.scope) {
            self.errors.at(name, message);
        }
        let values = Punctuated::<Expr, Token![,]>::parse_terminated.parse2(input.clone());
        match values.as_ref().map(Punctuated::len) {
            Ok(1) => {}
            Ok(0) => self.errors.at(name, "`yield_!` yields one value: `yield_!(value)`, or `yield_!(())` for none"),
            Ok(_) => self.errors.at(input, "`yield_!` yields one value; for several write a tuple: `yield_!((a, b))`"),
            Err(error) => self.errors.push(error.clone()),
        }
    }

    fn note(&mut self, name: &Ident, is_bare: bool) {
        self.yields.any = true;
        if is_bare {
            self.yields.bare.get_or_insert_with(|| name.clone());
        }
    }

    fn note_all(&mut self, tokens: &TokenStream) {
        let mut previous = None;
        for tree in tokens.clone() {
            match (&previous, &tree) {
                (Some(TokenTree::Ident(name)), TokenTree::Punct(bang)) if name == "yield_" && bang.as_char() == '!' => {
                    self.note(name, true);
                }
                (_, TokenTree::Group(group)) => self.note_all(&group.stream()),
                _ => {}
            }
            previous = Some(tree);
        }
    }

    fn awaited(&mut self, span: Span) {
        if self.scope == Scope::Task && !self.rules.awaits {
            self.errors.push(syn::Error::new(span, "`.await` in a `fn` task: make it `async fn`"));
        }
    }

    /// The input of a macro's call, with its yields rewritten where it can be read as Rust.
    fn macro_input(&mut self, input: TokenStream, braces: bool) -> TokenStream {
        if !concerns_us(&input) {
            return input;
        }
        if braces && let Ok(mut statements) = Block::parse_within.parse2(input.clone()) {
            statements.iter_mut().for_each(|statement| self.visit_stmt_mut(statement));
            return quote!(#(#statements)*);
        }
        if let Ok(mut expressions) = Punctuated::<Expr, Token![,]>::parse_terminated.parse2(input.clone()) {
            expressions.iter_mut().for_each(|expression| self.visit_expr_mut(expression));
            return expressions.into_token_stream();
        }
        self.pieces(input)
    }

    /// Input as the arms of `tokio::select!`: expressions and other tokens between separators.
    fn pieces(&mut self, input: TokenStream) -> TokenStream {
        let mut output = TokenStream::new();
        let mut piece = Vec::new();
        for tree in input {
            let separator = match &tree {
                TokenTree::Punct(punct) if matches!(punct.as_char(), ',' | ';') => quote!(#tree),
                TokenTree::Punct(punct) if punct.as_char() == '>' && ends_with(&piece, '=') => {
                    let equals = piece.pop();
                    quote!(#equals #tree)
                }
                _ => {
                    piece.push(tree);
                    continue;
                }
            };
            output.extend(self.piece(std::mem::take(&mut piece)));
            output.extend(separator);
        }
        output.extend(self.piece(piece));
        output
    }

    fn piece(&mut self, piece: Vec<TokenTree>) -> TokenStream {
        let tokens: TokenStream = piece.iter().cloned().collect();
        match syn::parse2::<Expr>(tokens) {
            Ok(mut expression) => {
                self.visit_expr_mut(&mut expression);
                expression.into_token_stream()
            }
            Err(_) => self.tokens(&piece),
        }
    }

    /// Tokens that cannot be read as Rust, one by one.
    fn tokens(&mut self, tokens: &[TokenTree]) -> TokenStream {
        let mut output = TokenStream::new();
        let mut next_block = None;
        for (at, tree) in tokens.iter().enumerate() {
            match tree {
                TokenTree::Group(group) => {
                    let scope = match group.delimiter() {
                        Delimiter::Brace => next_block.take().unwrap_or(self.scope),
                        _ => self.scope,
                    };
                    self.within(scope, |body| output.append(body.group(group)));
                    continue;
                }
                TokenTree::Ident(name) => match (name.to_string().as_str(), &tokens[at + 1..]) {
                    ("yield_", [TokenTree::Punct(bang), TokenTree::Group(input), ..]) if bang.as_char() == '!' => {
                        self.refuse_reply(name);
                        self.check(&name.clone().into(), &input.stream());
                    }
                    ("await", _) if ends_with(&tokens[..at], '.') => self.awaited(name.span()),
                    ("async", _) => next_block = Some(Scope::Async),
                    ("fn", [TokenTree::Ident(_), ..]) => next_block = Some(Scope::Item),
                    _ => {}
                },
                TokenTree::Punct(punct) if punct.as_char() == ';' => next_block = None,
                _ => {}
            }
            output.append(tree.clone());
        }
        output
    }

    fn group(&mut self, group: &Group) -> Group {
        let braces = group.delimiter() == Delimiter::Brace;
        in_group(group, self.macro_input(group.stream(), braces))
    }
}

/// Why a `yield_!` may not stand in `scope`.
fn misplaced(scope: Scope) -> Option<&'static str> {
    match scope {
        Scope::Task => None,
        Scope::Closure => Some(
            "`yield_!` cannot be used in a closure: use a `for` loop in the task's own body; if there is no closure here, \
             another attribute may have wrapped this body: put `#[qtask]` first",
        ),
        Scope::Async => Some(
            "`yield_!` cannot be used in an `async` block: yield from the task's own body; if there is no such block here, \
             another attribute may have wrapped this body: put `#[qtask]` first",
        ),
        Scope::Item => Some(
            "`yield_!` cannot be used in a nested function: give it a parameter `co: &Co<Y, R>` and call `co.emit(value).await`",
        ),
    }
}

/// The `yield_` of a path to it.
fn yield_name(path: &Path) -> Option<&Ident> {
    let last = &path.segments.last()?.ident;
    (last == "yield_").then_some(last)
}

/// The parts of a statement that is a yield.
fn statement_yield(stmt: &Stmt) -> Option<(Vec<Attribute>, Macro, Option<Token![;]>)> {
    let (attrs, call, semi) = match stmt {
        Stmt::Macro(stmt) => (&stmt.attrs, &stmt.mac, stmt.semi_token),
        Stmt::Expr(expr, Some(semi)) => match passed_on(expr) {
            Expr::Macro(expr) => (&expr.attrs, &expr.mac, Some(*semi)),
            _ => return None,
        },
        _ => return None,
    };
    yield_name(&call.path)?;
    Some((attrs.clone(), call.clone(), semi))
}

/// Takes off the invisible delimiters around an expression that a `macro_rules!` has passed on.
fn passed_on(expr: &Expr) -> &Expr {
    match expr {
        Expr::Group(group) => passed_on(&group.expr),
        other => other,
    }
}

fn is_qtask(attr: &Attribute) -> bool {
    attr.path().segments.last().is_some_and(|last| last.ident == "qtask")
}

/// Whether there is anything in `tokens` to check or rewrite.
fn concerns_us(tokens: &TokenStream) -> bool {
    tokens.clone().into_iter().any(|tree| match tree {
        TokenTree::Ident(ident) => ident == "yield_" || ident == "await",
        TokenTree::Group(group) => concerns_us(&group.stream()),
        _ => false,
    })
}

/// `tokens` between the delimiters of `group`.
fn in_group(group: &Group, tokens: TokenStream) -> Group {
    let mut other = Group::new(group.delimiter(), tokens);
    other.set_span(group.span());
    other
}

fn ends_with(tokens: &[TokenTree], punct: char) -> bool {
    matches!(tokens.last(), Some(TokenTree::Punct(last)) if last.as_char() == punct)
}

fn without_trailing_comma(tokens: TokenStream) -> TokenStream {
    let mut trees: Vec<_> = tokens.into_iter().collect();
    if ends_with(&trees, ',') {
        trees.pop();
    }
    trees.into_iter().collect()
}

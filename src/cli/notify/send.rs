//! Findings to a webhook or a mailbox.

use std::time::Duration;

use anyhow::Context as _;
use lettre::message::Mailbox;
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};
use serde_json::json;
use url::Url;

use super::super::{Context, Failure, UsageError};
use crate::clients::webhook;
use crate::release::decision::Decision;
use crate::release::notify::Finding;
use crate::types::limits;

/// Who else is told.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Webhook and mail")]
pub(super) struct SendArgs {
    /// POST the findings there as JSON; with DEBVISOR_WEBHOOK_SECRET they are authenticated by HMAC-SHA-256
    #[arg(long, value_name = "URL")]
    webhook: Option<Url>,
    /// The mail server: smtps://USER@HOST, or smtp://HOST?tls=required; the password comes from DEBVISOR_SMTP_PASSWORD
    #[arg(long, value_name = "URL", requires = "mail_to")]
    smtp: Option<Url>,
    /// Whom the mail is from
    #[arg(long, value_name = "ADDRESS", default_value = "debvisor@localhost")]
    mail_from: Mailbox,
    /// Whom it goes to; repeatable
    #[arg(long, value_name = "ADDRESS", requires = "smtp")]
    mail_to: Vec<Mailbox>,
}

impl SendArgs {
    /// Whether anybody is named.
    pub(super) const fn is_asked(&self) -> bool {
        self.webhook.is_some() || self.smtp.is_some()
    }

    /// Tells everybody who is named.
    ///
    /// # Errors
    /// A [`Failure`] where somebody could not be told; the others have been.
    pub(super) async fn send(
        &self,
        name: &str,
        findings: &[Finding],
        done: &[String],
        context: &Context,
    ) -> anyhow::Result<()> {
        let hooked = self.to_webhook(name, findings, done, context).await;
        self.by_mail(name, findings, done, context).await?;
        hooked
    }

    async fn to_webhook(
        &self,
        name: &str,
        findings: &[Finding],
        done: &[String],
        context: &Context,
    ) -> anyhow::Result<()> {
        let Some(url) = &self.webhook else { return Ok(()) };
        let findings: Vec<_> = findings
            .iter()
            .map(|finding| {
                json!({
                    "key": finding.key(),
                    "scope": finding.scope,
                    "severity": finding.severity.name(),
                    "title": finding.title,
                    "text": finding.text,
                })
            })
            .collect();
        let body = json!({"name": name, "sent_at": context.now, "findings": findings, "done": done});
        let secret = context.environment.webhook_secret.as_ref().map(|secret| secret.reveal().as_bytes());
        let timeout = Duration::from_millis(limits::SERVICE_EXCHANGE_MS);
        webhook::post(url, &serde_json::to_vec(&body)?, secret, timeout).await.map_err(|error| {
            let host = url.host_str().unwrap_or_default();
            Failure::new(Decision::Undecided, format!("cannot tell the webhook at {host}: {error}"), "run again later")
                .into()
        })
    }

    async fn by_mail(
        &self,
        name: &str,
        findings: &[Finding],
        done: &[String],
        context: &Context,
    ) -> anyhow::Result<()> {
        let Some(url) = &self.smtp else { return Ok(()) };
        let mut url = url.clone();
        if let Some(password) = &context.environment.smtp_password
            && !url.username().is_empty()
            && url.password().is_none()
        {
            let unusable = |()| UsageError::new("the mail server's address takes no password", "see --smtp");
            url.set_password(Some(password.reveal())).map_err(unusable)?;
        }
        let usage = |error: &dyn std::fmt::Display| {
            UsageError::new(format!("the mail server cannot be used: {error}"), "smtps://USER@HOST")
        };
        let server = AsyncSmtpTransport::<Tokio1Executor>::from_url(url.as_str())
            .map_err(|error| usage(&error))?
            .timeout(Some(Duration::from_millis(limits::SERVICE_EXCHANGE_MS)))
            .build();
        let mut text = String::new();
        for line in done {
            text.push_str(line);
            text.push('\n');
        }
        for finding in findings {
            text.push_str(&format!("\n{} ({})\n{}\n", finding.title, finding.severity.name(), finding.scope));
        }
        let count = findings.len();
        let mut message = Message::builder()
            .from(self.mail_from.clone())
            .subject(format!("[debvisor] {name}: {count} finding{}", if count == 1 { "" } else { "s" }));
        for to in &self.mail_to {
            message = message.to(to.clone());
        }
        let message = message.body(text).context("cannot write the mail")?;
        server.send(message).await.map_err(|error| {
            let host = url.host_str().unwrap_or_default();
            let hint = "check the server's address, its user and DEBVISOR_SMTP_PASSWORD";
            anyhow::Error::from(Failure::new(Decision::Undecided, format!("cannot send mail by {host}: {error}"), hint))
        })?;
        Ok(())
    }
}

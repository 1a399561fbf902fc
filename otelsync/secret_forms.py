"""Forms of tokens that are known by their look, as those who issue them have published or made them known.

Each row has who issues it, the words that it begins with, and the pattern from there on. Words are in the case that
they have.
"""

from __future__ import annotations

from typing import Final

FORMS: Final[tuple[tuple[str, tuple[str, ...], str], ...]] = (
    # github.blog, "Behind GitHub's new authentication token formats"; the last is of older installations
    ("GitHub", ("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), r"gh[pousr]_[A-Za-z0-9]{20,}+"),
    ("GitHub", ("github_pat_",), r"github_pat_[A-Za-z0-9_]{20,}+"),
    ("GitHub", ("v1.",), r"v1\.[0-9a-f]{40}\b"),
    # docs.gitlab.com, "Token overview", token prefixes
    (
        "GitLab",
        ("glpat-", "gldt-", "glrt-", "glptt-", "glft-", "glimt-", "glagent-", "glcbt-", "gloas-", "glsoat-", "glffct-"),
        r"gl(?:pat|dt|rt|ptt|ft|imt|agent|cbt|oas|soat|ffct)-[A-Za-z0-9_-]{16,}+",
    ),
    ("Slack", ("xox",), r"xox[abeoprs]-[A-Za-z0-9-]{15,}+"),
    ("Slack", ("xapp-", "xwfp-"), r"x(?:app|wfp)-[A-Za-z0-9-]{15,}+"),
    ("Slack", ("hooks.slack.com/",), r"hooks\.slack\.com/(?:services|workflows|triggers)/[A-Za-z0-9+/]{20,}+"),
    ("Stripe", ("sk_live_", "sk_test_", "rk_live_", "rk_test_"), r"[sr]k_(?:live|test)_[A-Za-z0-9]{12,}+"),
    ("Stripe", ("whsec_",), r"whsec_[A-Za-z0-9+/]{20,}+=*+"),
    ("Google", ("AIza",), r"AIza[A-Za-z0-9_-]{35}"),
    ("Google", ("ya29.",), r"ya29\.[A-Za-z0-9_-]{20,}+"),
    ("Google", ("GOCSPX-",), r"GOCSPX-[A-Za-z0-9_-]{20,}+"),
    ("Google", ("1//0",), r"1//0[A-Za-z0-9_-]{30,}+"),
    ("AWS", ("AKIA", "ASIA", "ABIA", "ACCA"), r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b"),
    ("SendGrid", ("SG.",), r"SG\.[A-Za-z0-9_-]{16,32}\.[A-Za-z0-9_-]{20,}+"),
    ("npm", ("npm_",), r"npm_[A-Za-z0-9]{30,}+"),
    ("PyPI", ("pypi-",), r"pypi-AgE[A-Za-z0-9_-]{40,}+"),
    ("Hugging Face", ("hf_",), r"hf_[A-Za-z0-9]{30,}+"),
    ("DigitalOcean", ("dop_v1_", "doo_v1_", "dor_v1_"), r"do[opr]_v1_[0-9a-f]{40,}+"),
    ("Shopify", ("shpat_", "shpca_", "shppa_", "shpss_"), r"shp(?:at|ca|pa|ss)_[0-9a-fA-F]{20,}+"),
    ("Linear", ("lin_api_", "lin_oauth_"), r"lin_(?:api|oauth)_[A-Za-z0-9]{20,}+"),
    ("Atlassian", ("ATATT3", "ATCTT3"), r"AT[AC]TT3[A-Za-z0-9_=-]{40,}+"),
    ("Bitbucket", ("ATBB",), r"ATBB[A-Za-z0-9]{24,}+"),
    ("HubSpot", ("pat-na", "pat-eu", "pat-ap"), r"pat-(?:na|eu|ap)\d{0,2}-[0-9a-f]{8}-[0-9a-f-]{20,}+"),
    ("Groq", ("gsk_",), r"gsk_[A-Za-z0-9]{20,}+"),
    # OpenAI, Anthropic and their followers, but not sk-learn-and-its-followers
    ("OpenAI", ("sk-",), r"sk-(?=[A-Za-z_-]*+[0-9])[A-Za-z0-9_-]{20,}+"),
    ("Telegram", (":AA",), r":AA[A-Za-z0-9_-]{30,}+"),
    ("Mailgun", ("key-",), r"key-[0-9a-f]{32}\b"),
    ("New Relic", ("NRAK-", "NRII-", "NRJS-"), r"NR(?:AK|II|JS)-[A-Za-z0-9_-]{16,}+"),
    ("Sentry", ("sntrys_", "sntryu_"), r"sntry[su]_[A-Za-z0-9+/=_-]{30,}+"),
    ("Vault", ("hvs.", "hvb.", "hvr."), r"hv[sbr]\.[A-Za-z0-9_-]{20,}+"),
    ("Terraform", (".atlasv1.",), r"\.atlasv1\.[A-Za-z0-9_=-]{40,}+"),
    ("Docker", ("dckr_pat_", "dckr_oat_"), r"dckr_[po]at_[A-Za-z0-9_-]{20,}+"),
    ("Databricks", ("dapi",), r"dapi[0-9a-f]{32}(?:-\d)?\b"),
    ("Notion", ("ntn_",), r"ntn_[A-Za-z0-9]{30,}+"),
    ("Notion", ("secret_",), r"secret_[A-Za-z0-9]{43}\b"),
    ("Figma", ("figd_", "figo_"), r"fig[do]_[A-Za-z0-9_-]{20,}+"),
    ("Postman", ("PMAK-",), r"PMAK-[0-9a-f]{24}-[0-9a-f]{34}\b"),
    ("Supabase", ("sbp_", "sb_secret_"), r"sb(?:p|_secret)_[A-Za-z0-9_-]{20,}+"),
    ("Grafana", ("glsa_", "glc_"), r"gl(?:sa|c)_[A-Za-z0-9_=+/]{20,}+"),
    ("Azure AD", ("8Q~",), r"8Q~[A-Za-z0-9_~.-]{30,}+"),
    # RFC 7519
    ("JSON Web Token", ("eyJ",), r"eyJ[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]{8,}+\.[A-Za-z0-9_-]++"),
)

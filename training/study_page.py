"""The page of a user study: pictures side by side with one zoom for all, and a rank for each result.

The browser gets random file names and the letters A, B, C, ..., but no name of a method, a folder or a photo.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image
from study_votes import Shown, VoteFile, volunteer_name

from aict_hf.errors import InputError

HERE = Path(__file__).parent
QUESTION = (
    "One object of the first picture was pasted in. Which result looks most like a photo that nobody edited? "
    "Give each result a rank; 1 is the best."
)


def build(
    votes: VoteFile, pictures: Mapping[tuple[str, str], Path], *, votes_per_volunteer: int | None = None
) -> gr.Blocks:
    """The page.

    Args:
        votes: where votes are saved.
        pictures: the file that the page shows for each photo and method; those of the methods "" and "/mask" are the
            composite and the picture that dims its background.
        votes_per_volunteer: end after so many photos; None means all.
    """
    total = min(len(votes.photos()), votes_per_volunteer or len(votes.photos()))

    def address(photo: str, method: str) -> str:
        return f"gradio_api/file={pictures[photo, method].as_posix()}"

    def content(volunteer: str, message: str = "") -> dict[str, Any]:
        """What the page shows to a volunteer now; study_page.js reads it."""
        shown: Shown | None = votes.next_photo(volunteer, limit=votes_per_volunteer)
        facts = {"volunteer": volunteer, "count": votes.count(volunteer), "total": total, "message": message}
        if shown is None:
            return facts | {"ticket": None}
        with Image.open(pictures[shown.photo, ""]) as composite:
            size = composite.size
        return facts | {
            "ticket": shown.ticket,
            "size": size,
            "composite": address(shown.photo, ""),
            "mask": address(shown.photo, "/mask"),
            "results": [address(shown.photo, method) for method in shown.methods],
        }

    def told(error: InputError) -> gr.Error:
        return gr.Error(str(error).replace(str(votes.path), "the file of votes"), print_exception=False)

    def begin(nickname: str) -> tuple[str, dict[str, Any], Any]:
        try:
            volunteer = volunteer_name(nickname)
            return volunteer, content(volunteer), gr.update(visible=False)
        except InputError as error:
            raise told(error) from error

    def go_on(volunteer: str | None) -> tuple[Any, Any]:
        """Show a reloaded page as it was."""
        if not isinstance(volunteer, str) or not volunteer:
            return None, gr.update(visible=True)
        try:
            return content(volunteer_name(volunteer)), gr.update(visible=False)
        except InputError as error:
            raise told(error) from error

    def vote(event: gr.EventData) -> dict[str, Any]:
        try:
            volunteer, new = votes.save_vote(str(event.ticket), [int(place) for place in event.ranking])
            known = "You had ranked that photo before; the first ranking counts."
            return content(volunteer, "Saved." if new else known)
        except InputError as error:
            raise told(error) from error

    def leave() -> tuple[None, None, Any, str]:
        return None, None, gr.update(visible=True), ""

    with gr.Blocks(title="Which result looks best?", analytics_enabled=False) as page:
        gr.Markdown(f"# Which result looks best?\n{QUESTION}")
        volunteer = gr.BrowserState(None, storage_key=f"user_study_{votes.token}", secret=votes.token)
        with gr.Column(visible=False) as door:
            nickname = gr.Textbox(
                label="Nickname",
                info="Give the same one to go on later. Without one you get a random name.",
                elem_id="study-nickname",
                max_length=200,
            )
            start = gr.Button("Start", variant="primary", elem_id="study-start")
        stage = gr.HTML(
            html_template='<div class="study"></div>',
            css_template=(HERE / "study_page.css").read_text(),
            js_on_load=(HERE / "study_page.js").read_text(),
            apply_default_css=False,
            elem_id="study",
        )
        hidden: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
        page.load(go_on, volunteer, [stage, door], **hidden)
        gr.on([start.click, nickname.submit], begin, nickname, [volunteer, stage, door], **hidden)
        stage.submit(vote, None, stage, **hidden)
        stage.clear(leave, None, [volunteer, stage, door, nickname], **hidden)
    return page


def launch_options(pictures: Path) -> dict[str, Any]:
    """Arguments of `launch`, without the address; `pictures` is the only folder whose files the page serves."""
    fills = ("button_primary_background_fill", "button_primary_background_fill_dark")
    theme = gr.themes.Soft(primary_hue="teal", neutral_hue="slate").set(
        **dict.fromkeys(fills, "*primary_700"),
        block_title_text_color="*primary_800",
        block_title_text_color_dark="*primary_100",
        block_title_background_fill_dark="*primary_900",
        block_info_text_color="*neutral_700",
        block_info_text_color_dark="*neutral_200",
        color_accent="*primary_700",
    )
    return {"allowed_paths": [str(pictures)], "footer_links": [], "theme": theme, "show_error": False}

"""Define the named schemas of the API, with a description and an example of each field."""

from __future__ import annotations

from chalicelib.pipeline.job_files import DOCUMENTS
from chalicelib.runs.listing import ENDED, ON_ITS_WAY
from chalicelib.web.fields import Schema, anything, field, many, number, reference, text, texts, thing, time

RUN_ID, DATASET = "whippet-dev-dogs-1f2e3d4c", "dogs"
TESTED = {"images": 836, "accuracy": 0.989, "interval": [0.979, 0.994]}
METRICS = {"valid": {"images": 841, "accuracy": 0.991}, "test": TESTED}
STATUS: Schema = {"$ref": "#/components/schemas/Status", "description": "Where the run is."}
REASON = text(
    "Why the run is not on its way, what it waits for, or which call to AWS keeps failing; null otherwise.",
    None,
    null=True,
)
LISTED: dict[str, Schema] = {
    "run_id": text("The run's id; it is the tuning job's name too.", RUN_ID),
    "dataset": text("The dataset's name, and its model's.", DATASET),
    "status": STATUS,
    "reason": REASON,
    "created_at": time("When the run began."),
}
FACTS: dict[str, Schema] = {
    "accuracy": number("Its accuracy on the test images; null where none was measured.", 0.989, null=True),
    "images": number("How many images its dataset holds.", 8351, null=True, whole=True),
    "classes": number("How many classes its dataset has.", 133, null=True, whole=True),
    "seconds": number("Seconds from its beginning to its end; null before that.", 742, null=True, whole=True),
    "spent_usd": number("What it has cost; null where that is unknown.", 0.12, null=True),
}
BILLED: Schema = {
    "type": "boolean",
    "description": "Whether somebody is charged for the jobs; if not, the dollars are what AWS would charge.",
    "examples": [True],
}
MODEL: dict[str, Schema] = {
    "name": text("The model's name: its dataset's.", DATASET),
    "status": text("Whether it answers.", "ready", enum=["ready", "updating", "creating", "deleting", "failed"]),
    "endpoint": text("The name of its SageMaker endpoint.", "whippet-dev-dogs-5a6b7c8d"),
    "created_at": time("When the endpoint was created."),
}
NAMED: dict[str, Schema] = {
    "Status": text("Where a run is: on its way, or ended.", "training", enum=[*ON_ITS_WAY, *ENDED]),
    "Error": thing(
        "What went wrong, and what to do.",
        "error",
        error=thing(
            "The error.",
            "code message",
            code=text("A word for programs.", "UnreadableImage"),
            message=text("A sentence for people.", "The image is empty. Send the bytes of an image file."),
        )
        | {"examples": [{"code": "ModelNotFound", "message": "There is no model 'cats'. GET /models lists them."}]},
    ),
    "Health": thing(
        "The app answers.",
        "status version",
        status=text("Always ok.", "ok"),
        version=text("The app's version.", "0.1.0"),
    ),
    "Model": thing("A model that answers, or soon will.", "name status endpoint", **MODEL),
    "Models": thing("All models.", "models", models=many("Model", "The models, by name.")),
    "ModelDetails": thing(
        "A model, and the run that produced it.",
        "name status run_id",
        **MODEL,
        run_id=text("The run whose model is served.", RUN_ID, null=True),
        reason=text("Why it does not answer.", None, null=True),
        metrics=anything("Its metrics on the test images.", {"accuracy": 0.989}, null=True),
        hyperparameters=anything("The hyperparameters it was trained with.", {"learning_rate": "0.001"}, null=True),
    ),
    "DeletedModel": thing(
        "A model that was taken down.",
        "name status deleted",
        name=text("The model's name.", DATASET),
        status=text("What is happening to it.", "deleting"),
        deleted=texts("The endpoint, its configs and models.", ["whippet-dev-dogs-5a6b7c8d"]),
    ),
    "ClassProbability": thing(
        "One class, and how probable it is.",
        "class probability",
        **{"class": text("The class, as its folder is called.", "husky"), "probability": number("From 0 to 1.", 0.97)},
    ),
    "Result": thing(
        "The answer for one image: predictions, or an error of its own.",
        "",
        name=text("The file's name, where it was sent.", "dog.jpg"),
        predictions=many("ClassProbability", "The classes, best first; only the first `top` if that is given."),
        sure={"type": "boolean", "description": "Whether the best class reaches `threshold`.", "examples": [True]},
        explanation=anything(
            "With `explain`: the best class, and the image with a map of what spoke for it, as a PNG in a data URL. "
            "Null where the network has no map; absent where an older model answers.",
            {"class": "husky", "image": "data:image/png;base64,iVBORw0KGgo…"},
            null=True,
        ),
        known={"type": "boolean", "description": "Whether it fits any class, where that is known.", "examples": [True]},
        nearest=texts("Where it fits none: the classes that it is nearest to.", ["husky", "malamute"]),
        error=reference("Error") | {"description": "Why this image was not classified; the others were."},
    ),
    "Prediction": thing(
        "The answers, in the order of the images.",
        "results run_id milliseconds",
        results=many("Result", "One for each image."),
        run_id=text("The run whose model answered; null where no image could be classified.", RUN_ID, null=True),
        milliseconds=number("How long the request took inside the function.", 41.2),
    ),
    "PredictionRequest": thing(
        "Images as JSON. Give exactly one member.",
        "",
        image=text("One image: base64, or a data URL.", "data:image/jpeg;base64,/9j/4AAQ…"),
        images=texts("Up to 16 images.", ["/9j/4AAQ…", "iVBORw0KGgo…"]) | {"maxItems": 16, "minItems": 1},
        upload=text("The id of an image sent by POST /uploads.", "3f2c…"),
    ),
    "UploadRequest": thing(
        "What will be uploaded.",
        "kind size",
        kind=text("An image for a prediction, or a dataset's zip.", "dataset", enum=["image", "dataset"]),
        name=text("The dataset's name; an image needs none.", DATASET),
        size=number("Its size in bytes: exactly as many are accepted.", 123456789, whole=True),
    ),
    "UploadPart": thing(
        "One part of a large upload.",
        "number size",
        number=number("The part's number, from 1.", 1, whole=True),
        size=number("How many bytes of the file it takes, after those of the parts before it.", 67108864, whole=True),
        url=text("Where to PUT them. Keep the ETag of the answer.", "https://bucket.s3.eu-west-1.amazonaws.com/…"),
        etag=text(
            "In place of `url`: the part has arrived, and this is its ETag.", '"9b2cf535f27731c974343645a3985328"'
        ),
    ),
    "Upload": thing(
        "Where to PUT the bytes.",
        "id kind key size method expires_in",
        id=text('The upload\'s id: for `{"upload": id}`, and to complete it.', "0123456789abcdef0123456789abcdef"),
        kind=text("As asked.", "image", enum=["image", "dataset"]),
        key=text("The object's key in the bucket.", "datasets/dogs.zip"),
        size=number("As asked.", 8123456, whole=True),
        method=text("The HTTP method.", "PUT"),
        expires_in=number("Seconds for which the addresses are valid.", 3600, whole=True),
        url=text(
            "Where to PUT all bytes; missing where there are parts.", "https://bucket.s3.eu-west-1.amazonaws.com/…"
        ),
        parts=many("UploadPart", "From 100 MB on: where to PUT each part."),
        complete=text("The route to POST the parts' ETags to.", "uploads/0123456789abcdef0123456789abcdef/complete"),
    ),
    "SentPart": thing(
        "A part that was sent.",
        "number etag",
        number=number("Its number.", 1, whole=True),
        etag=text("The ETag that its PUT answered.", '"9b2cf535f27731c974343645a3985328"'),
    ),
    "SentParts": thing("All parts.", "parts", parts=many("SentPart", "One for each part.")),
    "CompletedUpload": thing(
        "An upload in one piece.",
        "id key",
        id=text("Its id.", "0123456789abcdef0123456789abcdef"),
        key=text("The object's key.", "datasets/dogs.zip"),
    ),
    "Weights": thing(
        "Whether a run would begin with ImageNet's weights.",
        "architecture state message",
        architecture=text("The network.", "resnet18"),
        state=text("Whether they are there.", "found", enum=["found", "missing", "unknown"]),
        message=text("What that means and what to do; null where they are found.", None, null=True),
    ),
    "DatasetUpload": thing(
        "Where to PUT a dataset's zip.",
        "method url key expires_in",
        method=text("The HTTP method.", "PUT"),
        url=text("Where to PUT the bytes.", "https://bucket.s3.eu-west-1.amazonaws.com/…"),
        key=text("The object's key.", "datasets/dogs.zip"),
        expires_in=number("Seconds for which the address is valid.", 3600, whole=True),
    ),
    "Cost": thing(
        "What a run costs, in US dollars.",
        "expected_usd worst_usd spent_usd",
        expected_usd=number("Before the run began; null where a price is missing.", 0.61, null=True),
        worst_usd=number("What its time limits let it cost at most.", 2.4, null=True),
        spent_usd=number("So far, by the billable seconds of its jobs.", 0.12, null=True),
        billed=BILLED,
        refined_usd=number("What it is expected to cost by the trials that have ended.", 0.58, null=True),
        budget_usd=number("The recipe's budget.", 5, null=True),
        prices_date=text("The date of the prices.", "2026-11-22", null=True),
        region=text("The region of the prices.", "eu-west-1"),
        spot={"type": "boolean", "description": "Whether spot instances are used.", "examples": [True]},
        unknown=text("Why nothing is known of its cost.", None, null=True),
        jobs=anything("Each job's share."),
        limits=anything("The time limits that bound the cost."),
        endpoint=anything("What the endpoint costs, as a rate: it is in none of the sums."),
    ),
    "Trial": thing(
        "One training of the tuning job.",
        "name status hyperparameters objective",
        name=text("The training job's name.", f"{RUN_ID}-003-0a1b2c3d"),
        status=text("SageMaker's status of the job.", "Completed"),
        hyperparameters=anything("What it was trained with.", {"learning_rate": "0.001"})
        | {"additionalProperties": {"type": "string"}},
        objective=number("Its score on the validation images.", 0.97, null=True),
        reason=text("Why it failed.", None, null=True),
        started_at=time("When it began.", null=True),
        ended_at=time("When it ended.", null=True),
        billable_seconds=number("Seconds that SageMaker charges for.", 118, null=True),
        instance_type=text("The machine.", "ml.g4dn.xlarge", null=True),
    ),
    "ListedRun": thing("A run in the list.", "run_id dataset status reason created_at", **LISTED, **FACTS),
    "Runs": thing(
        "Runs, newest first.",
        "runs next billed",
        runs=many("ListedRun", "The runs of this page."),
        next=text("Pass it as `after` for the next page; null on the last.", None, null=True),
        billed=BILLED,
    ),
    "RunEndpoint": thing(
        "The run's endpoint.",
        "name status",
        name=text("Its name.", "whippet-dev-dogs-5a6b7c8d"),
        status=text("SageMaker's status of it; null where it is gone.", "InService", null=True),
        serves=text("The run that it serves now.", RUN_ID, null=True),
    ),
    "RunLinks": thing(
        "Where more of the run is found.",
        "folder model report",
        folder=text("The run's folder.", f"s3://bucket/runs/{RUN_ID}/"),
        model=text("The route of its model.", "models/dogs"),
        report=text("A link to the report, valid for an hour; null before it is written.", None, null=True),
        fixes=text("A link to the list of labels that look wrong; null where there is none.", None, null=True),
    ),
    "Run": thing(
        "A run: its status, trials, best hyperparameters and metrics.",
        "run_id dataset status reason attempt created_at trials best links",
        **LISTED,
        attempt=number("Which try at this version of the dataset.", 1, whole=True),
        ended_at=time("When it ended.", null=True),
        seconds=number("Seconds elapsed.", 742),
        billable_seconds=number("Seconds that SageMaker charges for.", 510),
        cost={"anyOf": [reference("Cost"), {"type": "null"}], "description": "What it costs.", "examples": [None]},
        recipe=anything("The recipe, every default filled in."),
        dataset_report=anything("What pre-flight found.", null=True),
        trials=many("Trial", "The tuning job's trainings."),
        best=anything("The best hyperparameters.", null=True),
        training=anything("The final training.", null=True),
        decision=anything("Which model ships, whether it is deployed, and why.", null=True),
        shipped=text("Which model is deployed, and what it scored.", "Deployed: trial 3. It scored 99.4%.", null=True),
        approval=anything("Who had the model deployed that the rules did not deploy.", null=True),
        metrics=anything(
            "Metrics of its model: `valid` and `test`, this with its accuracy's 95 % interval.", METRICS, null=True
        ),
        stopping={
            "type": "boolean",
            "description": "Whether it was asked to stop, and has not yet.",
            "examples": [False],
        },
        pretrained=text("The weights that its model began with: `imagenet` or `none`.", "imagenet", null=True),
        advice=texts("What to do next, the most promising first.", ["add test images, since 24 leave the accuracy …"]),
        notes=texts("What is not as the recipe asks for, and why.", ["2 trials run at a time, not 4."]),
        endpoint=reference("RunEndpoint") | {"description": "Its endpoint."},
        links=reference("RunLinks") | {"description": "Links."},
    ),
    "JobCurve": thing(
        "The epochs of one job.",
        "name start epochs best",
        name=text("The job's name.", f"{RUN_ID}-train"),
        start=anything("What it began with.", null=True),
        epochs=field("array", "One record for each epoch.", [], items={"type": "object"}),
        best=anything("The best epoch.", null=True),
    ),
    "Curves": thing("The epochs of every job of a run.", "jobs", jobs=many("JobCurve", "One for each job.")),
    "JobDocuments": thing(
        "Findings about a run's model and its training.",
        "job evaluation profiler_rules",
        job=text("The job they are of.", f"{RUN_ID}-train"),
        training=text("The final training's job, which the debugger and the profiler watched.", f"{RUN_ID}-train"),
        evaluation=anything("The evaluation on the test images.", null=True),
        comparison=anything("How the candidates and the live model compare.", null=True),
        thresholds=many("Threshold", "What a least probability does, on the test images."),
        **{name: anything(f"The job's {name.replace('_', ' ')}.", null=True) for name in DOCUMENTS},
        profiler_rules=anything("The profiler's rules, by name."),
    ),
    "Threshold": thing(
        "What a least probability does: images below it are left unanswered.",
        "threshold coverage accuracy",
        threshold=number("The least probability.", 0.8),
        coverage=number("The share of the test images that is answered.", 0.93),
        accuracy=number("The share of the answers that is right.", 0.995),
    ),
    "Picture": thing(
        "A small image, and what the model made of it.",
        "split file label predicted probability given image",
        split=text("The split it is in.", "test"),
        file=text("Its path in the zip.", "test/husky/0007.jpg"),
        label=text("Its class, as it is labelled.", "husky"),
        predicted=text("The class that the model answers.", "malamute"),
        probability=number("That of the answer; null for a training image.", 0.91, null=True),
        given=number("That of the label; null for a training image.", 0.05, null=True),
        image=text("A data URL.", "data:image/jpeg;base64,/9j/4AAQ…"),
    ),
    "Pictures": thing(
        "Small images of a run.",
        "mistakes suspects samples",
        mistakes=many("Picture", "The wrong answers given with the greatest confidence."),
        suspects=many("Picture", "Images whose label looks wrong."),
        samples=many("Picture", "Test images of different classes, to try the model with."),
    ),
    "Log": thing(
        "The last lines that a job has logged.",
        "job lines",
        job=text("The job; null before the first has begun.", f"{RUN_ID}-train", null=True),
        lines=texts("The lines, the oldest first.", ["epoch 1 of 8"]),
    ),
    "RecipeSchema": anything("The JSON Schema of recipes."),
    "Recipe": thing(
        "A recipe.", "recipe", recipe=anything("It, every default filled in.", {"architecture": "resnet18"})
    ),
    "RunStatus": thing("A run's status.", "run_id status", run_id=LISTED["run_id"], status=STATUS),
    "RunId": thing("A new run.", "run_id", run_id=LISTED["run_id"]),
    "RemovedDataset": thing(
        "What was removed.",
        "name status runs models left",
        name=text("The dataset.", DATASET),
        status=text("Whether all is gone.", "deleted", enum=["deleted", "deleting"]),
        runs=texts("The runs that were removed.", [RUN_ID]),
        models=texts("The models that were removed.", [DATASET]),
        left=texts("What has to end first; empty where all is gone.", []),
    ),
}

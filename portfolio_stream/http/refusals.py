"""The HTTP status of each refusal of a request about the job: a worker's own interface and Flink's answer alike."""

from collections.abc import Mapping
from http import HTTPStatus

from portfolio_stream.errors import (
    BrokerUnreachable,
    ControlUnavailable,
    GenerationUnknown,
    InvalidSetting,
    JobNotBegun,
    JobNotInState,
    KafkaRefused,
    OperationInProgress,
    OperationUnknown,
    PortfolioStreamError,
    SavepointElsewhere,
    SavepointForeign,
    SavepointIdInvalid,
    SavepointKept,
    SavepointMissing,
    SavepointStoreFailed,
    SavepointStoreOther,
    SavepointTampered,
    SavepointTorn,
    SettingNotForJob,
    SourceHasGrown,
    SwitchRefused,
    TopicMissing,
)

#: any other error is a broken part (500)
JOB_STATUS: Mapping[type[PortfolioStreamError], HTTPStatus] = {
    BrokerUnreachable: HTTPStatus.SERVICE_UNAVAILABLE,
    ControlUnavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    GenerationUnknown: HTTPStatus.NOT_FOUND,
    InvalidSetting: HTTPStatus.BAD_REQUEST,
    JobNotBegun: HTTPStatus.CONFLICT,
    JobNotInState: HTTPStatus.CONFLICT,
    KafkaRefused: HTTPStatus.SERVICE_UNAVAILABLE,
    OperationInProgress: HTTPStatus.CONFLICT,
    OperationUnknown: HTTPStatus.NOT_FOUND,
    SavepointElsewhere: HTTPStatus.BAD_REQUEST,
    SavepointForeign: HTTPStatus.CONFLICT,
    SavepointIdInvalid: HTTPStatus.BAD_REQUEST,
    SavepointKept: HTTPStatus.CONFLICT,
    SavepointMissing: HTTPStatus.NOT_FOUND,
    SavepointStoreFailed: HTTPStatus.SERVICE_UNAVAILABLE,
    SavepointStoreOther: HTTPStatus.BAD_REQUEST,
    SavepointTampered: HTTPStatus.CONFLICT,
    SavepointTorn: HTTPStatus.CONFLICT,
    SettingNotForJob: HTTPStatus.BAD_REQUEST,
    SourceHasGrown: HTTPStatus.CONFLICT,
    SwitchRefused: HTTPStatus.CONFLICT,
    TopicMissing: HTTPStatus.CONFLICT,
}


def status_of(error: PortfolioStreamError, table: Mapping[type[PortfolioStreamError], HTTPStatus]) -> HTTPStatus:
    """The status of an error that the table has."""
    return next(status for kind, status in table.items() if isinstance(error, kind))
